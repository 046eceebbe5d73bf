"""Clients behind a proxy: the choice of the proxy, the tunnel, and errors."""

from __future__ import annotations

import contextlib
import logging
import re
import traceback
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from _kit import wire
from scenarios._answers import let_in, redirect
from scenarios._proxies import OPEN, REACHING, chain, named, set_environment
from scenarios._world import Capability, End, Peer, Running, Site, Step, World
from scenarios._worlds import in_every_world
from websockets.exceptions import (
    HeaderLineTooLong,
    InvalidMessage,
    InvalidProxy,
    InvalidProxyMessage,
    InvalidProxyStatus,
    ProxyError,
    StatusLineTooLong,
)
from websockets.http11 import MAX_LINE_LENGTH, USER_AGENT

# How far a connection came.
ASKING = "while waiting for the tunnel"
SECURING = "in the TLS handshake with the server"
OPENING = "in the opening handshake with the server"


@pytest.fixture(autouse=True)
def no_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {})


async def opened(connecting: Awaitable[End]) -> End:
    return await connecting


async def answer_opening(peer: Peer) -> str:
    """Play the server at the other end of the tunnel; return the head of the request."""
    head = (await peer.read_until()).decode()
    key = re.search(r"Sec-WebSocket-Key: (\S+)", head)
    assert key is not None
    await peer.write(wire.response(key=key[1]))
    return head


@contextlib.asynccontextmanager
async def reached(
    world: World, uri: str = "ws://example.com/", proxy: Any = "http://proxy:8080", at: str = "proxy", **options: Any
) -> AsyncIterator[tuple[Running[End], Peer]]:
    """A client that connects, and the proxy that it reached; in the end the proxy breaks the connection."""
    listener = world.listen(at, 8080)
    connecting = world.start(opened, world.connect(uri, proxy=proxy, **options))
    peer = await listener.peer()
    listener.close()
    try:
        yield connecting, peer
    finally:
        await world.settle()
        peer.reset()
        with contextlib.suppress(Exception):
            await (await connecting.result()).wait_closed()


@pytest.mark.scenario(74)
@in_every_world(Capability.ADDRESSES)
async def test_credentials_are_told_to_whom_they_are_for(world: World) -> None:
    uri, proxy = "ws://name:password@example.com/", "http://user:secret@proxy:8080"
    async with reached(world, uri, proxy, additional_headers={"Cookie": "crumbs"}) as (_, peer):
        assert (await peer.read_until()).decode() == (
            f"CONNECT example.com:80 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: {USER_AGENT}\r\n"
            "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n"
        )
        await peer.write(OPEN)
        head = await answer_opening(peer)
        assert "\r\nAuthorization: Basic bmFtZTpwYXNzd29yZA==\r\n" in head
        assert "\r\nCookie: crumbs\r\n" in head
        assert "Proxy-Authorization" not in head


@pytest.mark.scenario(74)
@in_every_world(Capability.ADDRESSES)
async def test_credentials_never_show(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with reached(world, proxy="http://user:secret@proxy:8080") as (connecting, peer):
        await peer.read_until()
        await peer.write(b"HTTP/1.1 407 No\r\n\r\n")
        with pytest.raises(InvalidProxyStatus) as raised:
            await connecting.result()
    report = "".join(traceback.format_exception_only(raised.value)) + caplog.text
    assert "http://proxy:8080" in report
    assert not re.search("user:|secret|dXNlcjpzZWNyZXQ", report)


@in_every_world(Capability.ADDRESSES)
async def test_the_log_shows_the_way_through_the_proxy(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.client")
    async with reached(world, proxy="http://user:secret@proxy:8080", user_agent_header=None) as (connecting, peer):
        await peer.read_until()
        await peer.write(b"HTTP/1.0 200 Go on\r\nVia: proxy\r\n\r\n")
        await answer_opening(peer)
        await connecting.result()
        lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "= connecting to example.com port 80 through the proxy http://proxy:8080"
    assert re.fullmatch(r"= connected to the proxy at [\d.]+:8080", lines[1])
    assert lines[2:7] == [
        "> CONNECT example.com:80 HTTP/1.1",
        "> Host: example.com",
        "> Proxy-Authorization: [redacted]",
        "< HTTP/1.0 200 Go on",
        "< Via: proxy",
    ]
    assert "> GET / HTTP/1.1" in lines[7:]


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"user_agent_header": "mine"}, "\r\nUser-Agent: mine\r\n"),
        ({"user_agent_header": None}, None),
        ({"user_agent_header": ""}, None),
        ({"additional_headers": {"User-Agent": "other"}}, f"\r\nUser-Agent: {USER_AGENT}\r\n"),
    ],
)
@in_every_world(Capability.ADDRESSES)
async def test_user_agent(world: World, options: dict[str, Any], sent: str | None) -> None:
    async with reached(world, **options) as (_, peer):
        head = (await peer.read_until()).decode()
        assert sent in head if sent else "User-Agent" not in head


@pytest.mark.parametrize(
    ("options", "authority", "host"),
    [
        ({}, "example.com:8000", "example.com:8000"),
        ({"host": "10.9.9.9", "port": 80}, "10.9.9.9:80", "10.9.9.9"),
        ({"host": "other"}, "other:8000", "other:8000"),
        ({"port": 8765}, "example.com:8765", "example.com:8765"),
        ({"host": None, "port": None}, "example.com:8000", "example.com:8000"),
    ],
)
@in_every_world(Capability.ADDRESSES)
async def test_host_and_port_lead_elsewhere(world: World, options: dict[str, Any], authority: str, host: str) -> None:
    async with reached(world, "ws://example.com:8000/", **options) as (_, peer):
        assert (await peer.read_until()).startswith(f"CONNECT {authority} HTTP/1.1\r\nHost: {host}\r\n".encode())
        await peer.write(OPEN)
        assert (await answer_opening(peer)).startswith("GET / HTTP/1.1\r\nHost: example.com:8000\r\n")


@in_every_world(Capability.ADDRESSES)
async def test_redirect(world: World) -> None:
    listener = world.listen("proxy", 8080)
    connecting = world.start(opened, world.connect("ws://one/", proxy="http://proxy:8080"))
    for server, location in ("one", "ws://two/a"), ("two", "/b"), ("two", None):
        peer = await listener.peer()
        assert (await peer.read_until()).startswith(f"CONNECT {server}:80 HTTP/1.1\r\n".encode())
        await peer.write(OPEN)
        if location is None:
            assert (await answer_opening(peer)).startswith("GET /b HTTP/1.1\r\nHost: two\r\n")
        else:
            await peer.read_until()
            await peer.write(redirect(location))
            await peer.read_until_eof()
            peer.hang_up()
    connection = await connecting.result()
    peer.reset()
    await connection.wait_closed()


# ------------------------------------------------------------------------------------------------------------- failures


NO_HTTP = "did not receive a valid HTTP response from proxy"


@pytest.mark.scenario(74)
@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize(
    ("answer", "kinds", "text"),
    [
        (b"HTTP/1.1 407 x\r\n\r\n", [InvalidProxyStatus], "proxy rejected connection: HTTP 407"),
        (b"HTTP/1.0 502 x\r\n\r\n", [InvalidProxyStatus], "proxy rejected connection: HTTP 502"),
        (
            b"HTTP/1.1 502 x\r\nContent-Length: 100\r\n\r\nsorry",
            [InvalidProxyStatus],
            "proxy rejected connection: HTTP 502",
        ),
        (b"HTTP/1.1 101 x\r\n\r\n", [InvalidProxyStatus], "proxy rejected connection: HTTP 101"),
        (b"nonsense\r\n\r\n", [InvalidProxyMessage, ValueError], NO_HTTP),
        (b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", [InvalidProxyMessage, ValueError], NO_HTTP),
        (b"HTTP/1.1 200 " + b"x" * MAX_LINE_LENGTH, [InvalidProxyMessage, StatusLineTooLong], NO_HTTP),
        (b"HTTP/1.1 200 OK\r\na:" + b"x" * MAX_LINE_LENGTH, [InvalidProxyMessage, HeaderLineTooLong], NO_HTTP),
    ],
)
@in_every_world(Capability.ADDRESSES)
async def test_no_tunnel(
    world: World, answer: bytes, kinds: list[type[Exception]], text: str, chunk: int | None
) -> None:
    world.chop(chunk)
    async with reached(world) as (connecting, peer):
        await peer.read_until()
        await peer.write(answer)
        # The proxy doesn't close: nobody waits for it to.
        with pytest.raises(ProxyError) as raised:
            await connecting.result()
        assert [type(exc) for exc in chain(raised.value)] == kinds
        assert str(raised.value) == text
        assert named(raised.value, ASKING)
        await world.settle()
        assert peer.let_go


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "connection closed while reading HTTP status line"),
        (b"HTTP/1.1 200 O", "connection closed while reading HTTP status line"),
        (b"HTTP/1.1 200 OK\r\na: b\r\n", "connection closed while reading HTTP headers"),
    ],
)
@pytest.mark.parametrize("reset", [False, True])
@in_every_world(Capability.ADDRESSES)
async def test_proxy_that_gives_up(world: World, reset: bool, answer: bytes, text: str) -> None:
    async with reached(world) as (connecting, peer):
        await peer.read_until()
        await peer.write(answer)
        await world.settle()
        if reset:
            peer.reset()
        else:
            peer.hang_up()
        with pytest.raises(InvalidProxyMessage) as raised:
            await connecting.result()
        causes = [InvalidProxyMessage, EOFError, *[ConnectionResetError][:reset]]
        assert [type(exc) for exc in chain(raised.value)] == causes
        assert (str(raised.value), str(raised.value.__cause__)) == (NO_HTTP, text)
        assert named(raised.value, ASKING)


@in_every_world(Capability.ADDRESSES)
async def test_proxy_that_cannot_be_reached(world: World) -> None:
    with pytest.raises(world.refused) as raised:
        await world.connect("ws://example.com/", proxy="http://proxy:8080")
    assert named(raised.value, REACHING)


@in_every_world(Capability.ADDRESSES)
async def test_proxy_that_never_answers(world: World) -> None:
    start = world.now()
    async with reached(world, open_timeout=3) as (connecting, peer):
        with pytest.raises(TimeoutError) as raised:
            await connecting.result()
        assert str(raised.value) == world.late[Step.TUNNEL]
        assert world.now() == start + 3
        assert named(raised.value, ASKING)
        await world.settle()
        assert peer.let_go


@pytest.mark.scenario(74)
@in_every_world(Capability.ADDRESSES)
async def test_proxy_that_is_slow_without_end(world: World) -> None:
    start = world.now()
    async with reached(world) as (connecting, peer):
        with pytest.raises(TimeoutError):  # noqa: PT012
            await peer.write(b"HTTP/1.1 200 OK\r\n")
            while not connecting.done():
                await peer.write(b"a: b\r\n")
                await world.sleep(0.5)
            await connecting.result()
        # The end may be seen only after the last pause.
        assert start + 10 <= world.now() <= start + 10.5


@pytest.mark.parametrize(
    ("uri", "stage", "step"),
    [("ws://example.com/", OPENING, Step.RESPONSE), ("wss://example.com:80/", SECURING, Step.TLS)],
)
@in_every_world(Capability.ADDRESSES)
async def test_server_behind_the_proxy_that_never_answers(world: World, uri: str, stage: str, step: Step) -> None:
    async with reached(world, uri, open_timeout=3) as (connecting, peer):
        await peer.read_until()
        await peer.write(OPEN)
        with pytest.raises(TimeoutError) as raised:
            await connecting.result()
        assert str(raised.value) == world.late[step]
        assert named(raised.value, stage)


@in_every_world(Capability.ADDRESSES)
async def test_log_of_attempts_through_a_proxy(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Each line names the proxy, but not its password, and says how far the connection came."""

    async def silence(peer: Peer) -> None:
        await peer.read_until_eof()

    async def refuse(peer: Peer) -> None:
        await peer.write(b"HTTP/1.1 503 x\r\nRetry-After: 60\r\n\r\n")

    async def hang_up(peer: Peer) -> None:
        peer.hang_up()

    async def open_and_be_silent(peer: Peer) -> None:
        await peer.write(OPEN)
        await peer.read_until_eof()

    async def forbid(peer: Peer) -> None:
        await peer.write(b"HTTP/1.1 407 x\r\n\r\n")

    async def serve_all(listener: Any) -> None:
        for answer in (silence, refuse, hang_up, open_and_be_silent, forbid):
            peer = await listener.peer()
            peers.append(peer)
            times.append(world.now() - start)
            await peer.read_until()
            await answer(peer)

    start, times = world.now(), list[float]()
    peers: list[Peer] = []
    caplog.set_level(logging.INFO, "websockets.client")
    serving = world.start(serve_all, world.listen("proxy", 8080))
    connecting = world.connect(
        "ws://example.com/", proxy="http://user:secret@proxy:8080", reconnect_delays=lambda: iter([1, 1, 1, 1, 1])
    )
    with pytest.raises(InvalidProxyStatus, match="407"):
        await anext(aiter(connecting))
    await serving.result()
    for peer in peers:
        peer.reset()
    way = "The connection to example.com port 80 goes through the proxy http://proxy:8080; it failed"
    invalid = "websockets.exceptions.InvalidProxy"
    assert [record.getMessage() for record in caplog.records] == [
        f"connect failed; reconnecting in 1.0 seconds: TimeoutError: {world.late[Step.TUNNEL]} ({way} {ASKING})",
        f"connect failed; reconnecting in 60.0 seconds: {invalid}Status: proxy rejected connection: HTTP 503"
        f" ({way} {ASKING})",
        f"connect failed; reconnecting in 1.0 seconds: {invalid}Message: {NO_HTTP} ({way} {ASKING})",
        f"connect failed; reconnecting in 1.0 seconds: TimeoutError: {world.late[Step.RESPONSE]} ({way} {OPENING})",
    ]
    assert times == [0, 11, 71, 72, 83]


@in_every_world(Capability.ADDRESSES)
async def test_server_that_fails_behind_the_proxy(world: World) -> None:
    async with reached(world) as (connecting, peer):
        await peer.read_until()
        await peer.write(OPEN)
        await peer.read_until()
        await peer.write(b"nonsense\r\n")
        with pytest.raises(InvalidMessage):
            await connecting.result()
        await world.settle()
        assert peer.let_go


# --------------------------------------------------------------------------------------------------------- which proxy


@contextlib.asynccontextmanager
async def directly(world: World, host: str = "example.com") -> AsyncIterator[Site]:
    """A server that is reached without a proxy."""
    async with world.site([let_in], host) as site:
        yield site


@in_every_world(Capability.ADDRESSES)
async def test_proxy_of_the_system(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {"http_proxy": "http://proxy:8080"})
    async with reached(world, "ws://example.com/", True) as (_, peer):
        assert (await peer.read_until()).startswith(b"CONNECT example.com:80 HTTP/1.1\r\n")


@in_every_world(Capability.ADDRESSES)
async def test_proxy_of_the_system_that_makes_no_sense(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, {"https_proxy": "http://user:secret@"})
    with pytest.raises(InvalidProxy) as raised:
        await world.connect("ws://example.com/")
    text = "http://***@ isn't a valid proxy: hostname isn't provided; it comes from the environment variable"
    assert str(raised.value) == f"{text} https_proxy"


@pytest.mark.parametrize(
    ("variables", "host", "options"),
    [
        ({"http_proxy": "http://proxy:8080"}, "localhost", {}),
        ({"http_proxy": "http://proxy:8080"}, "127.0.0.1", {}),
        ({"http_proxy": "http://proxy:8080"}, "example.com", {"proxy": None}),
        ({"http_proxy": "http://proxy:8080"}, "example.com", {"host": "localhost"}),
        ({"http_proxy": "http://proxy:8080", "no_proxy": "example.com"}, "example.com", {}),
        ({"http_proxy": "http://proxy:8080", "no_proxy": "elsewhere"}, "example.com", {"host": "elsewhere"}),
    ],
)
@in_every_world(Capability.ADDRESSES)
async def test_past_the_proxy(
    world: World, variables: dict[str, str], host: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, variables)
    async with directly(world, options.get("host", host)) as site, world.connect(site.uri(host=host), **options):
        assert site.asked[0].headers["Host"] == [f"{host}:{site.port}"]


@in_every_world(Capability.ADDRESSES)
async def test_loopback_through_an_explicit_proxy(world: World) -> None:
    async with reached(world, "ws://localhost:8765/", "http://localhost:8080", at="localhost") as (_, peer):
        assert (await peer.read_until()).startswith(b"CONNECT localhost:8765 HTTP/1.1\r\n")


@pytest.mark.parametrize("proxy", ["", "proxy:port", "ftp://proxy", False, 1])
@in_every_world(Capability.ADDRESSES)
async def test_proxy_that_makes_no_sense(world: World, proxy: Any) -> None:
    with pytest.raises(InvalidProxy):
        await world.connect("ws://example.com/", proxy=proxy)
