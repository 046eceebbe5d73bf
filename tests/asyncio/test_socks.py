"""Clients behind a SOCKS proxy, with python-socks itself: which of its failures are worth another attempt.

The proxy is played over real sockets, as python-socks has no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
from collections.abc import AsyncIterator

import pytest
from python_socks import ProxyError as SocksError

from _kit import virtual
from robustness.worlds import each_loop
from websockets.asyncio.client import connect
from websockets.exceptions import ProxyError

# What the proxy sends, beginning with the answer to the greeting, before it closes the connection.
Script = list[bytes]

NOTHING: Script = [b""]
NO_METHOD: Script = [b"\x05\xff"]
NO_SOCKS: Script = [b"HTTP/1.1 400 Bad Request\r\n\r\n"]
WRONG_PASSWORD: Script = [b"\x05\x02", b"\x01\x01"]
CUT: Script = [b"\x05\x00", b"\x05"]


def reply(code: int) -> Script:
    """Reply to a request (RFC 1928 section 6)."""
    return [b"\x05\x00", bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])]


def reply4(code: int) -> Script:
    """Reply as version 4 does."""
    return [bytes([0, code, 0, 0, 0, 0, 0, 0])]


@contextlib.asynccontextmanager
async def proxy(*scripts: Script) -> AsyncIterator[int]:
    """A proxy with a script for each connection; give its port.

    It has plain sockets. python-socks leaves replies half read, which resets connections, and then a server of asyncio
    never closes on Windows (see docs/platforms.md).
    """
    loop = asyncio.get_running_loop()

    async def play(listening: socket.socket) -> None:
        for script in scripts:
            sock, _ = await loop.sock_accept(listening)
            with sock, contextlib.suppress(OSError):
                for answer in script:
                    await loop.sock_recv(sock, 100)
                    await loop.sock_sendall(sock, answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        playing = asyncio.create_task(play(listening))
        # Too few connections would have it wait, and too many a client.
        async with asyncio.timeout(30):
            yield listening.getsockname()[1]
            await playing


async def connect_through(proxy_uri: str) -> None:
    """Try again at once, as long as that is worth it."""
    async for _ in connect("ws://example.com/", proxy=proxy_uri, reconnect_delays=lambda: itertools.repeat(0.0)):
        pass


@each_loop
async def test_failures_that_may_pass(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.client")
    scripts = [*map(reply, (1, 3, 4, 5, 6)), NOTHING, CUT, reply(2)]
    async with proxy(*scripts) as port:
        with pytest.raises(ProxyError) as raised:
            await connect_through(f"socks5h://user:secret@127.0.0.1:{port}")
    assert isinstance(raised.value.__cause__, SocksError)
    assert raised.value.__cause__.error_code == 2
    assert [record.getMessage() for record in caplog.records] == [
        "connect failed; reconnecting in 0.0 seconds:"
        " websockets.exceptions.ProxyError: failed to connect to SOCKS proxy"
        f" (The connection to example.com port 80 goes through the proxy socks5h://127.0.0.1:{port};"
        " it failed while reaching the proxy or waiting for its reply)"
    ] * 7


@each_loop
async def test_failures_of_version_4_that_may_pass() -> None:
    async with proxy(reply4(0x5B), NOTHING, reply4(0x5C)) as port:
        with pytest.raises(ProxyError):
            await connect_through(f"socks4a://127.0.0.1:{port}")


@pytest.mark.parametrize("script", [reply(2), reply(7), reply(8), reply(9), NO_METHOD, NO_SOCKS, WRONG_PASSWORD])
@each_loop
async def test_failures_that_end_the_loop(script: Script) -> None:
    async with proxy(script) as port:
        with pytest.raises(ProxyError):
            await connect_through(f"socks5h://user:wrong@127.0.0.1:{port}")


@pytest.mark.parametrize("credentials", ["user:secr%C3%A9t", "us%C3%A9r:secret", "user:secret%FF"])
@pytest.mark.parametrize("scheme", ["socks5h", "socks5", "socks4a"])
@virtual
async def test_credentials_that_cannot_be_sent(scheme: str, credentials: str) -> None:
    with pytest.raises(ProxyError, match="outside ASCII") as raised:
        await connect("ws://example.com/", proxy=f"{scheme}://{credentials}@127.0.0.1:1")
    # The error of python-socks has the password in it.
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert "goes through the proxy" in raised.value.__notes__[0]
