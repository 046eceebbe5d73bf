"""Connections with TLS by each transport: what programs ask, limits, failures, on each loop and in memory."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from _kit import own_garbage, virtual
from _kit.certificates import Certificate, client_context, server_context
from _kit.sockets import anonymous_tls
from _kit.tls import BIG
from robustness.worlds import each_loop, echo, port_of, until
from websockets.asyncio._internals import ignore_lost_handshakes
from websockets.asyncio._secure import method_for_tls, start_tls
from websockets.asyncio.client import connect, unix_connect
from websockets.asyncio.server import serve, unix_serve

KINDS = {"loop": "asyncio.sslproto", "memory": "websockets.asyncio._tls_transport", "aiofastnet": "aiofastnet"}


@each_loop
async def test_tls_and_what_programs_ask(tls_transport: str) -> None:
    asked: list[Any] = []

    async def handler(connection: Any) -> None:
        asked.append(connection.transport)
        await echo(connection)

    async with serve(handler, "localhost", 0, ssl=server_context()) as server:
        uri = f"wss://localhost:{port_of(server)}"
        async with connect(uri, ssl=client_context(), proxy=None) as connection:
            transport = connection.transport
            for size in 0, 5, 300, 20_000, 2**18:
                await connection.send(BIG[:size])
                assert await connection.recv() == BIG[:size]
            for each in (*asked, transport):
                if type(connection.loop).__module__.startswith("asyncio"):
                    assert type(each).__module__.startswith(KINDS[tls_transport])
                ask = each.get_extra_info
                assert isinstance(ask("sslcontext"), ssl.SSLContext)
                assert ask("cipher")[1] == "TLSv1.3"
                assert ask("ssl_object").version() == "TLSv1.3"
                assert ask("compression") is None
                assert ask("socket").fileno() >= 0
                assert not each.can_write_eof()
            assert transport.get_extra_info("peercert")["subjectAltName"]
            assert transport.get_extra_info("peername")[1] == port_of(server)
            assert connection.remote_address[1] == port_of(server)
        assert connection.close_code == 1000


@each_loop
async def test_tls_of_a_server_that_nobody_trusts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serve(echo, "localhost", 0, ssl=server_context(Certificate("elsewhere"))) as server:
        uri = f"wss://localhost:{port_of(server)}"
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(uri, ssl=client_context(), proxy=None)
        own_garbage()
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@virtual
async def test_a_failed_handshake_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    options: Any = {"tls_transport": "memory"}
    async with serve(echo, "localhost", 80, ssl=server_context(Certificate("elsewhere")), **options):
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect("wss://localhost:80/", ssl=client_context(), proxy=None, **options)
        await asyncio.sleep(1)
    (line,) = [record.getMessage() for record in caplog.records if "TLS" in record.getMessage()]
    assert line.startswith("connection from 127.0.0.1:")
    assert "ALERT" in line


@each_loop
async def test_tls_and_a_socket_of_the_program() -> None:
    async with serve(echo, sock=socket.create_server(("127.0.0.1", 0)), ssl=server_context()) as server:
        sock = socket.create_connection(("127.0.0.1", port_of(server)))
        async with connect("wss://localhost/", sock=sock, ssl=client_context()) as connection:
            await connection.send("text")
            assert await connection.recv() == "text"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
@each_loop
async def test_tls_over_unix_sockets(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    async with unix_serve(echo, path, ssl=server_context()):
        async with unix_connect(path, ssl=client_context()) as connection:
            await connection.send("text")
            assert await connection.recv() == "text"


@each_loop
async def test_a_loop_of_the_program_does_tls_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever replaced the method sees the arguments for TLS, as before."""
    told: list[Any] = []

    class Streams:
        async def create_connection(self, factory: Any, **options: Any) -> Any:
            told.append(options)

    streams, context = Streams(), client_context()
    await method_for_tls(streams, "create_connection", None, context)(asyncio.Protocol, ssl=context)
    assert told == [{"ssl": context}]
    # Without TLS nothing changes.
    assert method_for_tls(streams, "create_connection", "memory", None) == streams.create_connection
    # What a loop refuses, it still refuses.
    assert method_for_tls(streams, "create_connection", "loop", True) == streams.create_connection


#: Before Python 3.13, asyncio has no way to end the handshakes of its own transports.
ENDS_ITS_OWN = sys.version_info >= (3, 13)


@pytest.mark.parametrize("chosen", ["memory", "loop"] if ENDS_ITS_OWN else ["memory"])
@each_loop
async def test_a_server_that_closes_does_not_wait_for_handshakes(chosen: Any) -> None:
    context = anonymous_tls()[0]
    async with asyncio.timeout(30):
        async with serve(echo, "127.0.0.1", 0, ssl=context, tls_transport=chosen) as server:
            client = socket.create_connection(server.sockets[0].getsockname())
            await until(lambda: server._ws_shutdown.grace.shaking(asyncio.get_running_loop().time()))
    client.close()


@virtual
async def test_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    server, client = anonymous_tls()
    loop: Any = asyncio.get_running_loop()
    monkeypatch.setattr(ssl, "create_default_context", lambda: client)
    async with serve(echo, "localhost", 80, ssl=server):
        method = method_for_tls(loop, "create_connection", "memory", True)
        with pytest.raises(ValueError, match="You must set server_hostname when using ssl without a host"):
            await method(asyncio.Protocol, ssl=True, sock=await loop.network.open("localhost", 80))
        transport, _ = await method(asyncio.Protocol, ssl=True, host="localhost", port=80)
        transport.abort()


def test_what_is_reported_of_aiofastnet() -> None:
    class Loop:
        def __init__(self) -> None:
            self.reported: list[Any] = []

        def call_exception_handler(self, context: Any) -> None:
            self.reported.append(context)

    class Narrow:
        def __init__(self) -> None:
            self.reported: list[Any] = []

        @property
        def call_exception_handler(self) -> Any:
            return self.reported.append

    loops: list[Any] = [Loop(), Narrow()]
    for loop in loops:
        for _ in range(2):
            ignore_lost_handshakes(loop)
        for exc in ConnectionResetError, ConnectionResetError("an instance"), None:
            loop.call_exception_handler({"exception": exc})
        loop.call_exception_handler({})
        assert len(loop.reported) == (3 if type(loop) is Loop else 4)


def test_no_aiofastnet(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        await connect("wss://localhost:1/", tls_transport="aiofastnet", proxy=None)

    monkeypatch.setitem(sys.modules, "aiofastnet", None)
    with pytest.raises(ImportError, match="install the extra: websockets\\[fast\\]"):
        asyncio.run(main())


@each_loop
async def test_what_aiofastnet_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is installed or not."""
    asked: list[Any] = []

    async def start(*arguments: Any, **options: Any) -> None:
        asked.append((arguments, options))

    monkeypatch.setitem(sys.modules, "aiofastnet", SimpleNamespace(start_tls=start, create_server=start))
    loop, context = asyncio.get_running_loop(), client_context()
    transport, protocol = object(), asyncio.Protocol()
    assert await start_tls("aiofastnet", transport, protocol, context, server_hostname="host") is None
    await method_for_tls(loop, "create_server", "aiofastnet", context)("factory", port=80)
    assert asked == [
        ((loop, transport, protocol, context), {"server_hostname": "host"}),
        ((loop, "factory"), {"port": 80}),
    ]
