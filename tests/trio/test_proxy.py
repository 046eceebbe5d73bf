"""Clients on trio behind a proxy: HTTP, HTTPS with TLS in TLS, SOCKS."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from _kit.certificates import Certificate, client_context, server_context
from _kit.on_trio import answer_opening, on_network, port_of, serving
from _kit.trio_network import TrioNetwork, TrioPeer
from websockets.exceptions import InvalidProxy, InvalidProxyMessage, InvalidProxyStatus, InvalidStatus, ProxyError
from websockets.trio import _proxy
from websockets.trio._wire import start_tls
from websockets.trio.client import connect

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.fixture(autouse=True)
def no_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


async def play(network: TrioNetwork, script: Callable[[TrioPeer], Awaitable[None]], **options: Any) -> Any:
    """Connect through a proxy that follows a script; return what the server says first."""
    network.hosts["proxy"] = ["192.0.2.3"]
    listener = network.listen("proxy", 8080)
    uri = options.pop("uri", "ws://example.com/")

    async def serve() -> None:
        peer = await listener.peer()
        await script(peer)
        peer.close()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                async with connect(uri, **{"proxy": "http://proxy:8080", **options}) as websocket:
                    return await websocket.recv()
            except Exception as exc:
                return exc
            finally:
                nursery.cancel_scope.cancel()
    finally:
        listener.close()


@on_network
async def test_http(network: TrioNetwork) -> None:
    async def script(peer: TrioPeer) -> None:
        assert (await peer.read_until()).startswith(b"CONNECT example.com:80 HTTP/1.1\r\n")
        # The response may come in pieces.
        await peer.send(OPEN[:10])
        await trio.sleep(1)
        await peer.send(OPEN[10:])
        await answer_opening(peer)
        await peer.send(b"\x81\x05hello")
        await peer.read_until_eof()

    assert await play(network, script) == "hello"


@on_network
async def test_a_server_that_speaks_first(network: TrioNetwork) -> None:
    async def script(peer: TrioPeer) -> None:
        await peer.read_until()
        await peer.send(OPEN + b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        await peer.read_until()

    error = await play(network, script)
    assert isinstance(error, InvalidStatus)
    assert error.response.status_code == 503


@on_network
async def test_refusals(network: TrioNetwork) -> None:
    async def refuse(peer: TrioPeer) -> None:
        await peer.read_until()
        await peer.send(b"HTTP/1.1 407 No\r\n\r\n")

    async def leave(peer: TrioPeer) -> None:
        await peer.read_until()

    async def reset(peer: TrioPeer) -> None:
        await peer.read_until()
        peer.reset()

    async def talk(peer: TrioPeer) -> None:
        await peer.read_until()
        await peer.send(b"garbage\r\n\r\n")

    for script, kind in (
        (refuse, InvalidProxyStatus),
        (leave, InvalidProxyMessage),
        (reset, InvalidProxyMessage),
        (talk, InvalidProxyMessage),
    ):
        error = await play(network, script)
        assert isinstance(error, kind)
        assert error.__notes__ == [
            "The connection to example.com port 80 goes through the proxy http://proxy:8080; "
            "it failed while waiting for the tunnel"
        ]


@on_network
async def test_silence(network: TrioNetwork) -> None:
    """The timeout tells how far the connection came."""

    async def script(peer: TrioPeer) -> None:
        await peer.read_until_eof()

    error = await play(network, script, open_timeout=3)
    assert isinstance(error, TimeoutError)
    assert str(error) == "timed out during opening handshake"
    assert error.__notes__[0].endswith("it failed while waiting for the tunnel")


@on_network
async def test_data_before_tls(network: TrioNetwork) -> None:
    async def script(peer: TrioPeer) -> None:
        await peer.read_until()
        await peer.send(OPEN + b"data")
        await peer.read_until_eof()

    error = await play(network, script, uri="wss://example.com/")
    assert isinstance(error, ProxyError)
    assert str(error) == "proxy sent 4 bytes before the TLS handshake"


async def relay(source: trio.abc.Stream, target: trio.abc.Stream) -> None:
    with contextlib.suppress(trio.ClosedResourceError, trio.BrokenResourceError, OSError):
        while data := await source.receive_some():
            await target.send_all(data)
    await trio.aclose_forcefully(target)


async def tunnel(stream: trio.abc.Stream, *, port: int, nursery: trio.Nursery, ssl: Any = None) -> None:
    """A proxy that leads to a port of this host."""
    if ssl is not None:
        stream = await start_tls(stream, ssl, server_side=True)
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += await stream.receive_some(1000)
    server = await trio.open_tcp_stream("localhost", port)
    await stream.send_all(OPEN)
    nursery.start_soon(relay, stream, server)
    await relay(server, stream)


@pytest.mark.parametrize("proxy_tls", [False, True])
@pytest.mark.parametrize("tls", [False, True])
@on_network
async def test_tls_in_tls(network: TrioNetwork, proxy_tls: bool, tls: bool) -> None:
    network.hosts["proxy"] = ["192.0.2.3"]
    options: dict[str, Any] = {"ssl": client_context()} if tls else {}
    if proxy_tls:
        options["proxy_ssl"] = client_context()
        options["proxy_server_hostname"] = "other"
    async with (
        serving(ssl=server_context() if tls else None) as server,
        trio.open_nursery() as nursery,
    ):
        context = server_context(Certificate("other")) if proxy_tls else None
        listeners = await trio.open_tcp_listeners(8080, host="proxy")
        handler = functools.partial(tunnel, port=port_of(server), nursery=nursery, ssl=context)
        nursery.start_soon(trio.serve_listeners, handler, listeners)
        scheme = "wss" if tls else "ws"
        proxy = "https://proxy:8080" if proxy_tls else "http://proxy:8080"
        async with connect(f"{scheme}://localhost:{port_of(server)}/", proxy=proxy, **options) as websocket:
            await websocket.send("hello" * 10_000)
            assert await websocket.recv() == "hello" * 10_000
        nursery.cancel_scope.cancel()


# --------------------------------------------------------------------------------------------------- the system's proxy


@pytest.mark.parametrize("waits", [False, True])
@on_network
async def test_proxy_of_the_system(network: TrioNetwork, waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    in_threads: list[Any] = []

    async def run_sync(function: Any, *args: Any) -> Any:
        # The virtual clock doesn't know of real threads.
        in_threads.append(function)
        return function(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    monkeypatch.setattr(_proxy, "SYSTEM_WAITS", waits)
    monkeypatch.setenv("ws_proxy", "http://proxy:8080")

    async def script(peer: TrioPeer) -> None:
        await peer.read_until()
        await peer.send(b"HTTP/1.1 407 No\r\n\r\n")

    assert isinstance(await play(network, script, proxy=True, open_timeout=None), InvalidProxyStatus)
    assert len(in_threads) == waits
    monkeypatch.setenv("ws_proxy", "gopher://proxy")
    with pytest.raises(InvalidProxy, match="the environment variable ws_proxy"):
        await connect("ws://example.com/").__aenter__()


# ---------------------------------------------------------------------------------------------------------------- SOCKS


@on_network
async def test_socks(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def script(peer: TrioPeer) -> None:
        assert await peer.read_exactly(3) == b"\x05\x01\x00"
        await peer.send(b"\x05\x00")
        assert await peer.read_exactly(18) == b"\x05\x01\x00\x03\x0bexample.com\x00\x50"
        await peer.send(bytes([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
        await answer_opening(peer)
        await peer.send(b"\x81\x05hello")
        await peer.read_until_eof()

    for options in {}, {"local_address": "192.0.2.9"}:
        assert await play(network, script, proxy="socks5h://192.0.2.3:8080", **options) == "hello"


@on_network
async def test_socks_that_refuses(network: TrioNetwork) -> None:
    async def refuse(peer: TrioPeer) -> None:
        await peer.read_exactly(3)
        await peer.send(b"\x05\xff")

    error = await play(network, refuse, proxy="socks5h://192.0.2.3:8080")
    assert isinstance(error, ProxyError)
    assert str(error) == "failed to connect to SOCKS proxy"
    assert error.__notes__[0].endswith("it failed while reaching the proxy or waiting for its reply")


@on_network
async def test_socks_that_is_not_there(network: TrioNetwork) -> None:
    with pytest.raises(OSError, match="Could not connect to proxy"):
        await connect("ws://example.com/", proxy="socks5h://192.0.2.3:8080").__aenter__()


@on_network
async def test_without_python_socks(network: TrioNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    with pytest.raises(ImportError, match=r"^connecting through a SOCKS proxy requires python-socks"):
        await connect("ws://example.com/", proxy="socks5h://192.0.2.3:8080").__aenter__()
