"""HAProxy and the PROXY protocol: as HTTP, and as bytes of TLS that it doesn't look into; its health checks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from deployment.programs import Running, certificate, free_port, program, running, until
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve, unix_serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

CONFIG = """
defaults
    mode {mode}
    timeout connect 5s
    timeout client  30s
    timeout server  30s
    timeout tunnel  75s
    # Otherwise it is the time between two checks, which is too short on a busy machine.
    timeout check   30s

frontend websocket
    bind 127.0.0.1:{port}
    default_backend websocket_servers

backend websocket_servers
    {check}
    server only {server} {options} check inter 200ms
"""

SENT = {
    "version 1": "send-proxy",
    "version 2": "send-proxy-v2",
    "version 2 with fields": "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority,ssl",
}
each_version = pytest.mark.parametrize("options", SENT.values(), ids=SENT)
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
each_loop = pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)

HTTP_CHECK = "option httpchk GET /health"

LARGE = b"\0\1\2\3" * 2**17


def answer_health_check(connection: ServerConnection, request: Request) -> Response | None:
    return connection.respond(200, "OK\n") if request.path == "/health" else None


class Site:
    """A server that notes the addresses of its connections."""

    def __init__(self) -> None:
        self.ends: list[tuple[Any, Any]] = []

    async def echo(self, connection: ServerConnection) -> None:
        self.ends.append((connection.remote_address, connection.local_address))
        async for message in connection:
            await connection.send(message)

    def serve(self, **options: Any) -> Server:
        port = free_port()
        return serve(self.echo, "127.0.0.1", port, process_request=answer_health_check, **options)


@contextlib.contextmanager
def haproxy(
    folder: Path, server: Any, options: str, *, mode: str = "http", check: str = ""
) -> Iterator[tuple[Running, int]]:
    """Run HAProxy in front of a server."""
    port = free_port()
    (address,) = {sock.getsockname() for sock in server.sockets}
    place = f"unix@{address}" if isinstance(address, str) else f"{address[0]}:{address[1]}"
    text = CONFIG.format(mode=mode, port=port, check=check, server=place, options=options)
    (folder / "haproxy.cfg").write_text(text, "utf-8")
    with running(program("haproxy"), "-f", folder / "haproxy.cfg", port=port, cwd=folder) as run:
        yield run, port


async def talk(port: int, host: str, context: ssl.SSLContext | None = None) -> None:
    """Say something, and hear it again, as a client with an address of its own."""
    uri = f"{'ws' if context is None else 'wss'}://localhost:{port}"
    async with connect(uri, ssl=context, proxy=None, local_addr=(host, 0)) as client:
        for message in ("hello", LARGE):
            await client.send(message)
            assert await client.recv() == message
        await client.close(3000, "bye")
        assert (client.close_code, client.close_reason) == (3000, "bye")


def run(new_loop: Callable[[], asyncio.AbstractEventLoop], main: Any) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main)


@contextlib.asynccontextmanager
async def checked(run: Running, server: Server) -> AsyncIterator[None]:
    """HAProxy has asked more than once whether the server is well, and found that it is."""
    yield
    await asyncio.sleep(0.5)
    assert "DOWN" not in run.output, run.output


@each_loop
@each_version
@pytest.mark.parametrize("check", ["", HTTP_CHECK], ids=["connects", "asks"])
def test_addresses_of_clients(new_loop: Any, options: str, check: str, tmp_path: Path) -> None:
    async def main() -> None:
        site = Site()
        async with site.serve(proxy_protocol=["127.0.0.1"], max_connections_per_host=1) as server:
            with haproxy(tmp_path, server, options, check=check) as (run, port):
                async with checked(run, server):
                    hosts = [f"127.0.1.{number}" for number in range(1, 51)]
                    await asyncio.gather(*(talk(port, host) for host in hosts))
        assert sorted(remote[0] for remote, _ in site.ends) == sorted(hosts)
        assert {local for _, local in site.ends} == {("127.0.0.1", port)}

    run(new_loop, main())


@each_loop
@each_version
def test_tls_passes_through(new_loop: Any, options: str, tmp_path: Path) -> None:
    """HAProxy doesn't know what it passes on: the server has the certificate."""
    trusted = ssl.create_default_context(cafile=certificate(tmp_path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")

    async def main() -> None:
        site = Site()
        async with site.serve(proxy_protocol=["127.0.0.0/8"], ssl=context) as server:
            with haproxy(tmp_path, server, options, mode="tcp") as (run, port):
                async with checked(run, server):
                    hosts = [f"127.0.1.{number}" for number in range(1, 51)]
                    await asyncio.gather(*(talk(port, host, trusted) for host in hosts))
        assert sorted(remote[0] for remote, _ in site.ends) == sorted(hosts)

    run(new_loop, main())


@each_version
async def test_unix_socket(options: str, tmp_path: Path) -> None:
    site = Site()
    async with unix_serve(site.echo, str(tmp_path / "s"), proxy_protocol=["unix:"]) as server:
        with haproxy(tmp_path, server, options) as (_, port):
            await talk(port, "127.0.1.1")
    assert site.ends[0][0][0] == "127.0.1.1"


@each_version
async def test_server_that_does_not_expect_it(options: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with Site().serve() as server:
        with haproxy(tmp_path, server, options) as (_, port):
            with pytest.raises(InvalidStatus) as raised:
                await talk(port, "127.0.1.1")
    assert b"PROXY protocol header, which isn't expected" in (raised.value.response.body or b"")
    assert "opening handshake failed: PROXY protocol header, which isn't expected; see the option" in caplog.text


async def test_proxy_that_does_not_send_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with Site().serve(proxy_protocol=["127.0.0.1"]) as server:
        with haproxy(tmp_path, server, "") as (_, port):
            with pytest.raises(InvalidStatus, match="HTTP 502"):
                await talk(port, "127.0.1.1")
    assert "closed: invalid PROXY protocol header: connection begins with b'GET / HTTP/1.1\\r'" in caplog.text


async def test_proxy_that_is_not_trusted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with Site().serve(proxy_protocol=["192.0.2.0/24"]) as server:
        with haproxy(tmp_path, server, "send-proxy-v2") as (_, port):
            with pytest.raises(InvalidStatus, match="HTTP 502"):
                await talk(port, "127.0.1.1")
    assert "closed: its address isn't in proxy_protocol" in caplog.text


# -------------------------------------------------------------------------------------------------------- health checks


async def test_plain_check_leaves_no_trace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """HAProxy resets the connection as soon as there is one; the server needn't even see it."""
    async with Site().serve() as server:
        with haproxy(tmp_path, server, "") as (run, port):
            caplog.set_level(logging.INFO, "websockets.server")
            caplog.clear()
            async with checked(run, server):
                pass
            messages = set(caplog.messages)
            await talk(port, "127.0.1.1")
            assert "DOWN" not in run.output
    assert messages <= {"connection closed"}


async def test_http_check_needs_an_answer(tmp_path: Path) -> None:
    """By default the check is of HTTP/1.0 and no upgrade: without a hook that answers it, the server counts as down."""
    async with serve(Site().echo, "127.0.0.1", free_port()) as server:
        with haproxy(tmp_path, server, "", check=HTTP_CHECK) as (run, _):
            await until(lambda: "DOWN" in run.output)
            assert "code: 505" in run.output
            assert server.statistics.refused.keys() == {"invalid protocol"}
