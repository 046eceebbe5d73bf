"""Servers on the loop that Windows has: what asyncio's transports for a proactor do, and what isn't left to them.

The proactor is made of a selector: see ``tests/_windows``. There everything runs on it; here, what needs it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
from asyncio import proactor_events
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from _kit import advance, request, virtual
from _kit.sockets import anonymous_tls
from _windows.windows_events import ProactorEventLoop
from robustness.worlds import LOOPS
from websockets.asyncio._internals import end_socket
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.legacy.client import connect as legacy_connect
from websockets.legacy.server import WebSocketServer, WebSocketServerProtocol
from websockets.legacy.server import serve as legacy_serve

# Seconds that closing may take, however busy the machine is: less than a client may take for TLS.
SOON = 8

each_loop = pytest.mark.parametrize("new_loop", [*LOOPS.values(), ProactorEventLoop], ids=[*LOOPS, "proactor"])


def run(test: Coroutine[Any, Any, None], new_loop: Callable[[], Any] = ProactorEventLoop) -> list[str]:
    """Run a test; return what was reported to the loop."""
    reported: list[str] = []
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
        runner.run(test)
    return reported


async def wait(connection: Any) -> None:
    await connection.wait_closed()


def address(server: Server) -> Any:
    return next(iter(server.sockets)).getsockname()


def reset(sock: socket.socket) -> None:
    """Close a socket so that the other end hears of a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something is true."""
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


async def reset_connection(
    server: Server, stage: str, look: Callable[[ServerConnection], None] = lambda _: None
) -> None:
    """A client that connects and is gone."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, address(server))
        await until(lambda: bool(server._ws_registry.all))
        if stage == "open":
            await loop.sock_sendall(sock, request())
            await until(lambda: bool(server.connections))
        for connection in server._ws_registry.all:
            look(connection)
        reset(sock)
    await until(lambda: not server._ws_registry.all)


# --------------------------------------------------------------------------------------------------------------- resets


@each_loop
@pytest.mark.parametrize("stage", ["connected", "open"])
def test_a_server_whose_client_reset_its_connection(stage: str, new_loop: Callable[[], Any]) -> None:
    async def test() -> None:
        async with asyncio.timeout(SOON), serve(wait, "127.0.0.1", 0) as server:
            await reset_connection(server, stage)

    assert run(test(), new_loop) == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio's server waits for its connections from Python 3.12 on")
def test_a_release_of_asyncio_with_other_transports(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio complains, and counts the transport for ever; but the server closes."""
    caplog.set_level("INFO")
    monkeypatch.setattr("websockets._session.registry.GRACE", 0.01)
    monkeypatch.setattr(proactor_events._ProactorSocketTransport, "__module__", "asyncio.another")
    transports: list[Any] = []

    async def test() -> None:
        async with asyncio.timeout(SOON), serve(wait, "127.0.0.1", 0) as server:
            await reset_connection(server, "open", lambda connection: transports.append(connection.transport))
        for transport in transports:
            transport._sock.close()
            transport._sock = None

    (complaint,) = run(test())
    assert complaint.startswith("Exception in callback _ProactorBasePipeTransport._call_connection_lost(")
    assert "asyncio counts a connection that is over; the server closes without it" in caplog.messages


def test_a_transport_that_hides_its_socket() -> None:
    class Hiding(asyncio.Transport):
        __module__ = "asyncio.proactor_events"

        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return default

    end_socket(Hiding())


class NeverClosed:
    """asyncio's server, when it counts a connection for ever."""

    def __init__(self, server: asyncio.Server) -> None:
        self.server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self.server, name)

    async def wait_closed(self) -> None:
        await asyncio.get_running_loop().create_future()


TIMES = [
    # What the server is told, seconds since a client was accepted, seconds until the server is closed.
    ({}, None, 1),
    ({}, 0, 1),
    ({"ssl": True}, None, 1),
    ({"ssl": True}, 0, 11),
    ({"ssl": True}, 7, 4),
    ({"ssl": True}, 11, 1),
    ({"ssl": True, "open_timeout": None}, 0, 61),
    ({"ssl": True, "ssl_handshake_timeout": 3}, 1, 3),
]


@pytest.mark.parametrize(("options", "since", "seconds"), TIMES, ids=str)
@virtual
async def test_how_long_what_is_none_of_ours_is_waited_for(
    options: dict[str, Any], since: float | None, seconds: float
) -> None:
    """A client may be busy with TLS, which has its limit, too."""
    if "ssl" in options:
        options = {**options, "ssl": anonymous_tls()[0]}
    loop: Any = asyncio.get_running_loop()
    server = await serve(wait, "localhost", 80, **options)
    server.server = NeverClosed(server._ws_listening)  # type: ignore[assignment]
    if since is not None:
        peer = await loop.network.connect("localhost", 80)
        peer.close()
        await advance(since)
    start = loop.time()
    server.close()
    await server.wait_closed()
    assert loop.time() - start == pytest.approx(seconds, abs=0.1)


@virtual
async def test_a_connection_that_begins_while_the_server_closes() -> None:
    """TLS was done just in time: such a connection is waited for as others are."""
    loop: Any = asyncio.get_running_loop()
    server = await serve(wait, "localhost", 80, open_timeout=5)
    listening: Any = NeverClosed(server._ws_listening)
    server.server = listening
    connection = listening._factory()
    server.close()
    await advance(0.5)

    class Silent(asyncio.Protocol):
        def eof_received(self) -> bool:
            return True

    peer = await loop.network.create_server(Silent, "localhost", 81)
    transport, _ = await loop.network.create_connection(lambda: connection, "localhost", 81)
    # It was told at once that the server closes; the other end doesn't end the connection.
    await advance(2)
    assert server._ws_shutdown._closed is not None
    assert not server._ws_shutdown._closed.done()
    await server.wait_closed()
    assert transport.is_closing()
    peer.close()
    peer.abort_clients()


@virtual
async def test_a_server_that_was_made_by_somebody_else() -> None:
    loop = asyncio.get_running_loop()
    server = WebSocketServer()
    server.wrap(NeverClosed(await loop.create_server(asyncio.Protocol, "localhost", 80)))  # type: ignore[arg-type]
    start = loop.time()
    server.close()
    await server.wait_closed()
    assert loop.time() - start == pytest.approx(61)


# ------------------------------------------------------------------------------------------------------------ accepting


def fail(exc: BaseException) -> None:
    raise exc


FAILURES: dict[str, Callable[[], Any]] = {
    "an error": lambda: fail(LookupError("so")),
    "an error of the system": lambda: fail(OSError(errno.EMFILE, "Too many open files")),
    "cancellation": lambda: fail(asyncio.CancelledError()),
    "nothing": lambda: None,
}


@each_loop
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("api", ["asyncio", "legacy"])
def test_a_factory_that_fails_costs_that_client_only(
    api: str, failure: Callable[[], Any], new_loop: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    failures = [failure]
    kind: Any = ServerConnection if api == "asyncio" else WebSocketServerProtocol

    def create(*arguments: Any, **options: Any) -> Any:
        return failures.pop()() if failures else kind(*arguments, **options)

    async def test() -> None:
        place: tuple[Any, ...] = wait, "127.0.0.1", 0
        serving: Any = (
            serve(*place, create_connection=create)
            if api == "asyncio"
            else legacy_serve(*place, create_protocol=create)
        )
        async with asyncio.timeout(SOON), serving as server:
            uri = "ws://{}:{}/".format(*address(server))
            with socket.create_connection(address(server)) as sock:
                sock.setblocking(False)
                assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""
            assert server.is_serving()
            assert server.statistics.refused == {"failure": 1}
            connecting: Any = connect(uri, proxy=None) if api == "asyncio" else legacy_connect(uri)
            async with connecting as client:
                await client.ping()

    assert run(test(), new_loop) == []
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "creating a connection failed"
    ]


def test_a_server_that_cannot_accept_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop closes the socket for good."""

    async def test() -> None:
        loop: Any = asyncio.get_running_loop()
        async with serve(wait, "127.0.0.1", 0) as server:
            assert server.is_serving()

            def accept(sock: socket.socket) -> None:
                raise OSError(errno.EMFILE, "Too many open files")

            monkeypatch.setattr(loop._proactor, "accept", accept)
            # This one is accepted; and then no more.
            with socket.create_connection(address(server)):
                await until(lambda: not server.is_serving())

    assert run(test()) == ["Accept failed on a socket"]
