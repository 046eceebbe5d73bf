"""Clients: how to connect, requests, timeouts, and errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from _kit import CHUNKERS, KEY, Chunker, wire
from _kit.site import Asked
from scenarios._answers import accepted, hang, let_in, let_in_and_close, redirect, refuse, reset
from scenarios._world import Capability, End, Peer, Step, World
from scenarios._worlds import in_every_world
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosedError,
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
)
from websockets.http11 import USER_AGENT
from websockets.protocol import State


@in_every_world()
async def test_async_with(world: World) -> None:
    async with world.site([let_in]) as web:
        async with world.connect(web.uri()) as connection:
            opened = connection.state
        assert (opened, connection.state, connection.close_code) == (State.OPEN, State.CLOSED, 1000)


@in_every_world()
async def test_async_with_left_through_an_exception(world: World) -> None:
    async with world.site([let_in]) as web:
        connections: list[End] = []

        async def main() -> None:
            async with world.connect(web.uri()) as connection:
                connections.append(connection)
                raise LookupError

        with pytest.raises(LookupError):
            await main()
        assert [connection.close_code for connection in connections] == [1011]


@in_every_world()
async def test_connection_as_a_context_of_its_own(world: World) -> None:
    async with world.site([let_in]) as web:
        async with await world.connect(web.uri()) as connection:
            pass
        assert connection.close_code == 1000


@in_every_world()
async def test_again_after_a_failure(world: World) -> None:
    async with world.site([refuse(404), let_in]) as web:
        connecting = world.connect(web.uri())
        with pytest.raises(InvalidStatus):
            async with connecting:
                raise AssertionError("never reached")
        async with connecting as connection:
            assert connection.state is State.OPEN


# ------------------------------------------------------------------------------------------------------------- request


@in_every_world()
async def test_headers_of_the_request(world: World) -> None:
    async with world.site([let_in]) as web:
        uri = f"ws://user:pass@localhost:{web.port}/"
        options: dict[str, Any] = {"origin": "null", "subprotocols": ["a", "b"], "additional_headers": {"X": "y"}}
        async with world.connect(uri, **options) as connection:
            ((_, _, headers),) = web.asked
            assert connection.request is not None
            assert list(headers.items()) == [(name, [value]) for name, value in connection.request.headers.raw_items()]
        del headers["Sec-WebSocket-Key"]
        assert list(headers.items()) == [
            ("Host", [f"localhost:{web.port}"]),
            ("Authorization", ["Basic dXNlcjpwYXNz"]),
            ("Origin", ["null"]),
            ("Upgrade", ["websocket"]),
            ("Connection", ["Upgrade"]),
            ("Sec-WebSocket-Version", ["13"]),
            ("Sec-WebSocket-Extensions", ["permessage-deflate; client_max_window_bits"]),
            ("Sec-WebSocket-Protocol", ["a, b"]),
            ("X", ["y"]),
            ("User-Agent", [USER_AGENT]),
        ]


@pytest.mark.parametrize(
    "headers",
    [{"A": "1", "Host": "twice"}, [("A", "1"), ("Host", "twice")], Headers([("A", "1"), ("Host", "twice")])],
    ids=["dict", "pairs", "Headers"],
)
@in_every_world()
async def test_additional_headers(world: World, headers: Any) -> None:
    async with world.site([let_in]) as web:
        async with world.connect(web.uri(), additional_headers=headers):
            pass
        assert web.asked[0].headers["A"] == ["1"]
        assert web.asked[0].headers["Host"] == [f"localhost:{web.port}", "twice"]


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, [USER_AGENT]),
        ({"user_agent_header": "mine"}, ["mine"]),
        ({"user_agent_header": None}, None),
        ({"user_agent_header": ""}, None),
        ({"additional_headers": {"user-agent": "other"}}, None),
    ],
)
@in_every_world()
async def test_user_agent(world: World, options: Any, sent: list[str] | None) -> None:
    async with world.site([let_in]) as web:
        async with world.connect(web.uri(), **options):
            pass
        assert web.asked[0].headers.get("User-Agent") == sent


@in_every_world()
async def test_no_compression(world: World) -> None:
    async with world.site([let_in]) as web:
        async with world.connect(web.uri(), compression=None):
            pass
        assert "Sec-WebSocket-Extensions" not in web.asked[0].headers


@in_every_world()
async def test_header_that_breaks_the_line(world: World) -> None:
    async with world.site([let_in]) as web:
        broken: list[dict[str, Any]] = [
            {"additional_headers": {"X": "a\r\nb: c"}},
            {"origin": "a\nb"},
            {"user_agent_header": "a\rb"},
        ]
        for options in broken:
            with pytest.raises(InvalidHeaderValue):
                await world.connect(web.uri(), **options)
        await world.settle()
        assert web.asked == []
        assert all(peer.let_go for peer in web.visitors)


@in_every_world(Capability.ADDRESSES)
async def test_host_and_port_lead_elsewhere(world: World) -> None:
    async with world.site([let_in], "elsewhere", 8000) as web:
        for uri, options in [
            ("ws://example.com/", {"host": "elsewhere", "port": 8000}),
            ("ws://elsewhere/", {"port": 8000}),
            ("ws://example.com:8000/", {"host": "elsewhere"}),
        ]:
            async with world.connect(uri, **options):  # type: ignore[arg-type]
                pass
        assert [asked.headers["Host"] for asked in web.asked] == [["example.com"], ["elsewhere"], ["example.com:8000"]]


@in_every_world()
async def test_limits_reach_the_connection(world: World) -> None:
    async def tell(peer: Peer, asked: Asked) -> None:
        await peer.write(accepted(asked) + wire.binary(bytes(11)))
        assert (await peer.frame()).payload[:2] == (1009).to_bytes(2, "big")

    async with world.site([tell]) as web, world.connect(web.uri(), max_size=10) as connection:
        assert connection.protocol.max_message_size == 10
        with pytest.raises(ConnectionClosedError):
            await connection.recv()


# --------------------------------------------------------------------------------------------- what the server answers


@pytest.mark.parametrize("chunker", CHUNKERS, ids=lambda chunker: chunker.__name__)
@in_every_world()
async def test_frames_behind_the_response(world: World, chunker: Chunker) -> None:
    async def answer(peer: Peer, asked: Asked) -> None:
        for chunk in chunker(accepted(asked) + wire.text("first") + wire.text("second")):
            await peer.write(chunk)
            await world.settle()
        await peer.write(wire.close(1000))
        await peer.frame()

    async with world.site([answer]) as web, world.connect(web.uri()) as connection:
        assert [message async for message in connection] == ["first", "second"]


@in_every_world()
async def test_close_behind_the_response(world: World) -> None:
    async with world.site([let_in_and_close(1013)]) as web, world.connect(web.uri()) as connection:
        with pytest.raises(ConnectionClosedError, match="^received 1013 "):
            await connection.recv()
        assert connection.close_code == 1013


@in_every_world()
async def test_end_behind_the_response(world: World) -> None:
    async def answer(peer: Peer, asked: Asked) -> None:
        await peer.write(accepted(asked))

    async with world.site([answer]) as web, world.connect(web.uri()) as connection:
        with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
            await connection.recv()


def wrong(headers: wire.Headers) -> Callable[[Peer, Asked], Any]:
    async def answer(peer: Peer, asked: Asked) -> None:
        await peer.write(wire.response(headers=headers, key=asked.headers["Sec-WebSocket-Key"][0]))
        await peer.read_until_eof()

    return answer


BAD_ANSWERS: list[tuple[str, Any, type[Exception], str, type[Exception] | None]] = [
    ("refusal", refuse(403), InvalidStatus, "server rejected WebSocket connection: HTTP 403", None),
    ("success", refuse(200), InvalidStatus, "server rejected WebSocket connection: HTTP 200", None),
    ("garbage", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", InvalidMessage, "did not receive a valid HTTP response", ValueError),
    ("nothing", b"", InvalidMessage, "did not receive a valid HTTP response", EOFError),
    ("half a line", b"HTTP/1.1 1", InvalidMessage, "did not receive a valid HTTP response", EOFError),
    ("reset", reset, InvalidMessage, "did not receive a valid HTTP response", EOFError),
    ("no Upgrade", wrong({"Upgrade": None}), InvalidUpgrade, "missing Upgrade header", None),
    ("no Accept", wrong({"Sec-WebSocket-Accept": None}), InvalidHeader, "missing Sec-WebSocket-Accept header", None),
    ("wrong Accept", wrong({"Sec-WebSocket-Accept": KEY}), InvalidHeaderValue,
     f"invalid Sec-WebSocket-Accept header: {KEY}", None),
    ("subprotocol", wrong({"Sec-WebSocket-Protocol": "a"}), NegotiationError, "no subprotocols supported", None),
    ("extension", wrong({"Sec-WebSocket-Extensions": "a"}), NegotiationError,
     "Unsupported extension: name = a, params = []", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "kind", "text", "cause"), [row[1:] for row in BAD_ANSWERS], ids=[row[0] for row in BAD_ANSWERS]
)
@in_every_world()
async def test_bad_answer(
    world: World, answer: Any, kind: type[Exception], text: str, cause: type[Exception] | None
) -> None:
    async with world.site([answer]) as web:
        start = world.now()
        with pytest.raises(kind) as caught:
            await world.connect(web.uri())
        assert isinstance(caught.value, InvalidHandshake)
        assert str(caught.value) == text
        assert type(caught.value.__cause__) is (cause or type(None))
        await world.settle()
        assert world.now() == start
        # The TCP connection is gone, whatever the server thinks of it.
        assert web.visitors[0].let_go


@in_every_world()
async def test_reset_is_the_root_cause(world: World) -> None:
    async with world.site([reset]) as web:
        with pytest.raises(InvalidMessage) as caught:
            await world.connect(web.uri())
        assert isinstance(caught.value.__cause__, EOFError)
        assert isinstance(caught.value.__cause__.__cause__, ConnectionResetError)


@pytest.mark.parametrize(
    "data",
    [
        refuse(404, body=b"not here"),
        wire.response(404, {"Transfer-Encoding": "chunked"}, body=b"4\r\nnot \r\n4\r\nhere\r\n0\r\n\r\n"),
        wire.response(404, body=b"not here"),
    ],
    ids=["length", "chunks", "end of the stream"],
)
@in_every_world()
async def test_body_of_a_refusal(world: World, data: bytes) -> None:
    async with world.site([data]) as web:
        with pytest.raises(InvalidStatus) as caught:
            await world.connect(web.uri())
        assert caught.value.response.status_code == 404
        assert caught.value.response.body == b"not here"


@in_every_world()
async def test_nobody_listens(world: World) -> None:
    with pytest.raises(world.refused):
        await world.connect("ws://localhost:20000/")


# ----------------------------------------------------------------------------------------------------------- deadlines


def drip(data: bytes) -> Callable[[Peer, Asked], Any]:
    async def answer(peer: Peer, asked: Asked) -> None:
        await peer.write(data)
        while True:
            await peer.pause(0.5)
            await peer.write(b"a")

    return answer


SLOW = [
    hang,
    drip(b"HTTP/1.1 101 "),
    drip(b"HTTP/1.1 101 Switching Protocols\r\nX: "),
    drip(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 "),
]


@pytest.mark.scenario(71)
@pytest.mark.parametrize("answer", SLOW, ids=["silence", "status line", "header", "interim"])
@in_every_world()
async def test_slow_server(world: World, answer: Any) -> None:
    async with world.site([answer]) as web:
        start = world.now()
        with pytest.raises(TimeoutError, match=f"^{world.late[Step.RESPONSE]}$"):
            await world.connect(web.uri(), open_timeout=3)
        assert world.now() - start == 3
        await world.settle()
        assert web.visitors[0].let_go


SLOW_BODIES = {
    "endless body": drip(b"HTTP/1.1 503 Busy\r\n\r\n"),
    "body": drip(b"HTTP/1.1 503 Busy\r\nContent-Length: 1000\r\n\r\n"),
    "chunk": drip(b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n"),
    "HTTP/1.0": drip(b"HTTP/1.0 503\r\n\r\n"),
}


@pytest.mark.scenario(71)
@pytest.mark.parametrize("answer", SLOW_BODIES.values(), ids=SLOW_BODIES)
@in_every_world()
async def test_refusal_whose_body_does_not_end(world: World, answer: Any) -> None:
    """It is a refusal all the same, when time is up."""
    async with world.site([answer, let_in]) as web:
        start = world.now()
        with pytest.raises(InvalidStatus, match="HTTP 503") as caught:
            await world.connect(web.uri(), open_timeout=2.75)
        assert world.now() - start == 2.75
        assert caught.value.response.body == b"aaaaa"
        assert isinstance(caught.value.__cause__, world.too_slow)
        await world.settle()
        assert web.visitors[0].let_go


@in_every_world()
async def test_refusal_whose_body_is_lost(world: World) -> None:
    async def reset(peer: Peer, asked: Asked) -> None:
        await peer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1000\r\n\r\nbecause")
        await world.settle()
        peer.reset()

    async with world.site([reset]) as web:
        with pytest.raises(InvalidStatus, match="HTTP 403") as caught:
            await world.connect(web.uri())
    assert caught.value.response.body == b"because"
    cause = caught.value.__cause__
    assert str(cause) == "stream ends after 7 bytes, expected 1000 bytes"
    assert isinstance(cause and cause.__cause__, ConnectionResetError)


@in_every_world(Capability.CANCELLATION)
async def test_cancelled_in_the_body_of_a_refusal(world: World) -> None:
    async with world.site([drip(b"HTTP/1.1 503 Busy\r\n\r\n")]) as web:

        async def connect() -> Any:
            return await world.connect(web.uri())

        task = world.start(connect)
        await world.sleep(1)
        await task.cancel()
        assert task.cancelled()


@in_every_world()
async def test_no_time_after_a_redirect(world: World) -> None:
    """What the first server said is no reason for what the second one didn't say."""
    async with world.site([redirect("/b"), hang]) as web:
        with pytest.raises(TimeoutError, match=f"^{world.late[Step.RESPONSE]}\n"):
            await world.connect(web.uri())


@in_every_world()
async def test_no_open_timeout(world: World) -> None:
    async def answer(peer: Peer, asked: Asked) -> None:
        await world.sleep(3600)
        await let_in(peer, asked)

    async with world.site([answer]) as web:
        start = world.now()
        async with world.connect(web.uri(), open_timeout=None):
            assert world.now() - start == 3600


# --------------------------------------------------------------------------------------------------------------- URIs


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/?name=José García", "/?name=Jos%C3%A9%20Garc%C3%ADa"),
        ("/a b?c d", "/a%20b?c%20d"),
        ("/a%20b c", "/a%20b%20c"),
        ("/caf%C3%A9/é", "/caf%C3%A9/%C3%A9"),
        ("/a ", "/a"),
        ("/|<%zz", "/|<%zz"),
    ],
)
@in_every_world()
async def test_target_of_a_uri_that_is_an_iri(world: World, target: str, sent: str) -> None:
    async with world.site([let_in]) as web:
        async with world.connect(web.uri(target)) as connection:
            assert connection.request is not None
            assert connection.request.path == sent
        assert web.targets == [sent]


# Names for which Python's resolver has nothing but a UnicodeError.
NO_NAMES = ["a..b", ".invalid", "a..", ".", "a" * 64, "a。。b", "é" * 63]


@pytest.mark.parametrize("host", [host for host in NO_NAMES if host.isascii()])
@in_every_world()
async def test_redirect_to_a_host_that_no_resolver_takes(world: World, host: str) -> None:
    async with world.site([redirect(f"ws://{host}/"), redirect(f"//{host}/")]) as web:
        for _ in range(2):
            with pytest.raises(InvalidURI, match="hostname has"):
                await world.connect(web.uri())


@pytest.mark.parametrize("host", NO_NAMES)
@in_every_world()
async def test_proxy_that_no_resolver_takes(world: World, host: str) -> None:
    for scheme in ("http", "https", "socks5h"):
        with pytest.raises(InvalidProxy, match=r"hostname|outside ASCII"):
            await world.connect("ws://localhost/", proxy=f"{scheme}://{host}:8080")


@in_every_world()
async def test_credentials_with_blanks(world: World) -> None:
    async with world.site([let_in]) as web:
        async with world.connect(web.uri().replace("ws://", "ws://user:pass word@")):
            pass
        assert web.asked[0].headers["Authorization"] == ["Basic dXNlcjpwYXNzIHdvcmQ="]


# ------------------------------------------------------------------------------------------------------------- secrets


@pytest.mark.scenario(73)
@in_every_world()
async def test_credentials_are_in_no_error_and_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.client")
    shown: list[str] = []
    async with world.site([refuse(401), b"garbage\r\n\r\n", redirect("ws://[::1:bad/"), redirect("/a b"), hang]) as web:
        for _ in range(5):
            with pytest.raises((InvalidHandshake, InvalidURI, TimeoutError)) as caught:
                await world.connect(f"ws://user:secret@localhost:{web.port}/", open_timeout=1)
            shown += [str(caught.value), repr(caught.value)]
    shown += [record.getMessage() for record in caplog.records]
    for secret in ("secret", "dXNlcjpzZWNyZXQ="):
        assert secret not in "\n".join(shown)


# ------------------------------------------------------------------------------------------------------------------ log


@in_every_world()
async def test_records_carry_the_connection(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.client")
    ids: list[Any] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            connection = getattr(record, "websocket", None)
            ids.append(None if connection is None else connection.id)

    collector = Collector()
    logging.getLogger("websockets.client").addHandler(collector)
    try:
        async with world.site([let_in]) as web, world.connect(web.uri()) as connection:
            pass
    finally:
        logging.getLogger("websockets.client").removeHandler(collector)
    # The first line comes before there is a connection.
    assert ids[0] is None
    assert set(ids[1:]) == {connection.id}


@in_every_world()
async def test_logger_of_ones_own(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mine")
    async with world.site([let_in]) as web, world.connect(web.uri(), logger=logging.getLogger("mine")):
        pass
    assert {record.name for record in caplog.records} == {"mine"}
    assert "= connection is OPEN" in [record.getMessage() for record in caplog.records]
