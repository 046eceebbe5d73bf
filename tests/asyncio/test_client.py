"""Clients on asyncio: the ways to connect, what is sent, deadlines, redirects, and all that can go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import re
import ssl
from collections.abc import Callable, Generator
from typing import Any

import pytest

from _kit import CHUNKERS, KEY, Chunker, RawPeer, VirtualLoop, idle, steps, virtual, wire
from _kit.site import Asked, let_in, let_in_and_close, redirect, refuse, site
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
    SecurityError,
)
from websockets.http11 import USER_AGENT
from websockets.protocol import State


def running_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def now() -> float:
    return asyncio.get_running_loop().time()


def accepted(asked: Asked) -> bytes:
    return wire.response(key=asked.headers["Sec-WebSocket-Key"][0])


async def hang(peer: RawPeer, asked: Asked) -> None:
    """Never answer; notice when the client is gone."""
    await peer.read_until_eof()


# ---------------------------------------------------------------------------------------------------------- three uses


@virtual
async def test_await() -> None:
    async with site([let_in]) as web:
        for connecting in (connect(web.uri()), connect(web.uri()).connect()):
            connection = await connecting
            assert isinstance(connection, ClientConnection)
            assert connection.state is State.OPEN
            await connection.close()
            assert connection.close_code == 1000


@virtual
async def test_async_with() -> None:
    async with site([let_in]) as web:
        async with connect(web.uri()) as connection:
            opened = connection.state
        assert (opened, connection.state, connection.close_code) == (State.OPEN, State.CLOSED, 1000)


@virtual
async def test_async_with_left_through_an_exception() -> None:
    async with site([let_in]) as web:
        connections: list[ClientConnection] = []

        async def main() -> None:
            async with connect(web.uri()) as connection:
                connections.append(connection)
                raise LookupError

        with pytest.raises(LookupError):
            await main()
        assert [connection.close_code for connection in connections] == [1011]


@virtual
async def test_connection_as_a_context_of_its_own() -> None:
    async with site([let_in]) as web:
        async with await connect(web.uri()) as connection:
            pass
        assert connection.close_code == 1000


@virtual
async def test_one_at_a_time() -> None:
    async with site([let_in]) as web:
        connecting = connect(web.uri())
        async with connecting as first:
            with pytest.raises(RuntimeError, match=r"^connect\(\) isn't reentrant$"):
                async with connecting:
                    raise AssertionError("never reached")
            assert first.state is State.OPEN
        async with connecting as second:
            assert second is not first


@virtual
async def test_leaving_what_was_not_entered() -> None:
    async with site([let_in]) as web:
        connecting = connect(web.uri())
        for _ in range(2):
            with pytest.raises(AttributeError, match=r"^connect\(\) has no connection: it is left without"):
                await connecting.__aexit__(None, None, None)
            async with connecting:
                pass


@virtual
async def test_a_class_with_names_of_its_own() -> None:
    class Named(connect):
        def __init__(self, uri: str, **options: Any) -> None:
            super().__init__(uri, **options)
            names = "uri protocol connection connecting connector loop logger attempt hop redirects entered is_entered"
            for name in (*names.split(), "first_uri", "make_protocol", "make_connection", "streams", "max_redirects"):
                setattr(self, f"_{name}", "mine")

    class NamedConnection(ClientConnection):
        _open = _opening = _ask = _hear = _new_parser = "mine"

    async with site([let_in]) as web:
        async with Named(web.uri(), create_connection=NamedConnection) as connection:
            assert connection.state is State.OPEN
        await (await Named(web.uri())).close()


@virtual
async def test_a_class_with_its_own_way_to_be_awaited() -> None:
    class Counting(connect):
        count = 0

        def __await__(self) -> Generator[Any, None, ClientConnection]:
            self.count += 1
            return super().__await__()

    async with site([let_in_and_close()]) as web:
        connecting = Counting(web.uri())
        await (await connecting).close()
        async with connecting:
            pass
        async for connection in connecting:
            await connection.close()
            break
        assert connecting.count == 3


@virtual
async def test_opening_a_tcp_connection() -> None:
    """A class may do something to each TCP connection before the opening handshake, redirects included."""

    class Marking(connect):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.opened: list[tuple[str, State]] = []

        async def open_tcp_connection(self) -> ClientConnection:
            connection = await super().open_tcp_connection()
            self.opened.append((self.ws_uri.path, connection.state))
            return connection

    async with site({"/a": redirect("/b"), "/b": let_in}) as web:
        connecting = Marking(web.uri("/a"))
        async with connecting:
            assert connecting.opened == [("/a", State.CONNECTING), ("/b", State.CONNECTING)]
        async with connecting:
            assert [path for path, _ in connecting.opened] == ["/a", "/b"] * 2
    connecting = Marking("ws://localhost/", family=0)
    assert connecting.create_connection_kwargs == {"family": 0}


@virtual
async def test_again_after_a_failure() -> None:
    async with site([refuse(404), let_in]) as web:
        connecting = connect(web.uri())
        with pytest.raises(InvalidStatus):
            async with connecting:
                raise AssertionError("never reached")
        async with connecting as connection:
            assert connection.state is State.OPEN


@virtual
async def test_connection() -> None:
    async with site([let_in]) as web, connect(web.uri("/a?b=c")) as connection:
        assert connection.request is not None
        assert connection.request.path == "/a?b=c"
        assert connection.response is not None
        assert connection.response.status_code == 101
        assert connection.remote_address == ("127.0.0.1", web.port)
        assert connection.local_address == web.peers[0].link.client.getsockname()


# ------------------------------------------------------------------------------------------------------------- request


@virtual
async def test_headers_of_the_request() -> None:
    async with site([let_in]) as web:
        uri = f"ws://user:pass@localhost:{web.port}/"
        options: dict[str, Any] = {"origin": "null", "subprotocols": ["a", "b"], "additional_headers": {"X": "y"}}
        async with connect(uri, **options) as connection:
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
@virtual
async def test_additional_headers(headers: Any) -> None:
    async with site([let_in]) as web:
        async with connect(web.uri(), additional_headers=headers):
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
@virtual
async def test_user_agent(options: Any, sent: list[str] | None) -> None:
    async with site([let_in]) as web:
        async with connect(web.uri(), **options):
            pass
        assert web.asked[0].headers.get("User-Agent") == sent


@virtual
async def test_no_compression() -> None:
    async with site([let_in]) as web:
        async with connect(web.uri(), compression=None):
            pass
        assert "Sec-WebSocket-Extensions" not in web.asked[0].headers


@virtual
async def test_header_that_breaks_the_line() -> None:
    async with site([let_in]) as web:
        broken: list[dict[str, Any]] = [
            {"additional_headers": {"X": "a\r\nb: c"}},
            {"origin": "a\nb"},
            {"user_agent_header": "a\rb"},
        ]
        for options in broken:
            with pytest.raises(InvalidHeaderValue):
                await connect(web.uri(), **options)
        await idle()
        assert web.asked == []
        assert all(link.closed for link in running_loop().network.links)


# ------------------------------------------------------------------------------------------------------------- options

QUEUE = "must be a number of frames, 0 or more, a pair of such, or None for no limit"

BAD_OPTIONS: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("http://localhost/", {}, InvalidURI, "http://localhost/ isn't a valid URI: scheme isn't ws or wss"),
    ("ws://", {}, InvalidURI, "ws:// isn't a valid URI: hostname isn't provided"),
    ("ws://localhost:99999/", {}, InvalidURI, "ws://localhost:99999/ isn't a valid URI: port is out of range 0-65535"),
    ("ws://localhost/", {"ssl": "context"}, ValueError, "ssl argument is incompatible with a ws:// URI"),
    ("wss://localhost/", {"ssl": None}, ValueError, "ssl=None is incompatible with a wss:// URI"),
    ("ws://localhost/", {"compression": "gzip"}, ValueError, "unsupported compression: gzip"),
    ("ws://localhost/", {"subprotocols": "chat"}, TypeError, "subprotocols must be a list, not a str"),
    ("ws://localhost/", {"subprotocols": ["a b"]}, ValueError, "invalid subprotocol: a b"),
    ("ws://localhost/", {"max_queue": -1}, ValueError, f"max_queue {QUEUE}, not -1"),
]


@pytest.mark.parametrize(("uri", "options", "kind", "text"), BAD_OPTIONS)
def test_options_are_checked_at_once(uri: str, options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        connect(uri, **options)
    assert str(caught.value) == text


@virtual
async def test_unknown_option() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        await connect("ws://localhost:20000/", nonsense=1)


def test_signature_of_connection_and_connect_agree() -> None:
    connection = inspect.signature(ClientConnection).parameters
    options = inspect.signature(connect).parameters
    for name in ("ping_interval", "ping_timeout", "close_timeout", "max_queue", "write_limit"):
        assert connection[name].default == options[name].default


@virtual
async def test_host_and_port_lead_elsewhere() -> None:
    async with site([let_in], "elsewhere", 8000) as web:
        for uri, options in [
            ("ws://example.com/", {"host": "elsewhere", "port": 8000}),
            ("ws://elsewhere/", {"port": 8000}),
            ("ws://example.com:8000/", {"host": "elsewhere"}),
        ]:
            async with connect(uri, **options):  # type: ignore[arg-type]
                pass
        assert [asked.headers["Host"] for asked in web.asked] == [["example.com"], ["elsewhere"], ["example.com:8000"]]


@virtual
async def test_socket_that_is_connected() -> None:
    async with site([let_in]) as web:
        sock = await running_loop().network.open("localhost", web.port)
        async with connect("ws://example.com/", sock=sock) as connection:
            assert connection.remote_address == ("127.0.0.1", web.port)
        assert web.asked[0].headers["Host"] == ["example.com"]


@virtual
async def test_other_arguments_reach_the_loop() -> None:
    async with site([let_in]) as web:
        async with connect(web.uri(), local_addr=("127.0.0.1", 4000), happy_eyeballs_delay=0.1) as connection:
            assert connection.local_address == ("127.0.0.1", 4000)


@virtual
async def test_limits_reach_the_connection() -> None:
    async def tell(peer: RawPeer, asked: Asked) -> None:
        await peer.send(accepted(asked) + wire.binary(bytes(11)))
        assert (await peer.read_frame()).payload[:2] == (1009).to_bytes(2, "big")

    async with site([tell]) as web, connect(web.uri(), max_size=10) as connection:
        assert connection.protocol.max_message_size == 10
        with pytest.raises(ConnectionClosedError):
            await connection.recv()


class Mine(ClientConnection):
    """A connection class of the application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.arguments = (args, kwargs)


@virtual
async def test_create_connection_as_a_class() -> None:
    times = {"ping_interval": 1, "ping_timeout": 2, "close_timeout": 3, "max_queue": 4, "write_limit": 5}
    async with site([let_in]) as web, connect(web.uri(), create_connection=Mine, **times) as connection:  # type: ignore[arg-type]
        assert isinstance(connection, Mine)
        args, kwargs = connection.arguments
        assert [type(argument) for argument in args] == [ClientProtocol]
        assert kwargs == times


@virtual
async def test_create_connection_as_a_factory() -> None:
    made: list[ClientConnection] = []

    def factory(protocol: ClientProtocol, **kwargs: Any) -> ClientConnection:
        made.append(ClientConnection(protocol, **kwargs))
        return made[-1]

    async with site([let_in]) as web, connect(web.uri(), create_connection=factory) as connection:
        assert made == [connection]


@virtual
async def test_extra_headers_is_the_old_name() -> None:
    async with site([let_in]) as web:
        with pytest.warns(DeprecationWarning, match=r"^extra_headers was renamed to additional_headers$") as caught:
            connecting = connect(web.uri(), extra_headers={"X-Old": "1"})
        assert caught[0].filename == __file__
        async with connecting:
            assert web.asked[0].headers["X-Old"] == ["1"]


@virtual
async def test_create_protocol_is_the_old_name() -> None:
    async with site([let_in]) as web:
        with pytest.warns(DeprecationWarning, match=r"^create_protocol was renamed to create_connection$") as caught:
            connecting = connect(web.uri(), create_protocol=Mine)
        assert [warning.filename for warning in caught] == [__file__]
        async with connecting as connection:
            assert isinstance(connection, Mine)


# ----------------------------------------------------------------------------------------------------------------- TLS


def plain_text(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Make the running loop connect without TLS whatever it is told; return what it is told."""
    seen: list[dict[str, Any]] = []
    loop = running_loop()

    async def create_connection(factory: Any, **kwargs: Any) -> Any:
        seen.append(kwargs)
        return await loop.network.create_connection(factory, host=kwargs["host"], port=kwargs["port"])

    monkeypatch.setattr(loop, "create_connection", create_connection)
    return seen


CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.mark.scenario(75)
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, {"ssl": True, "server_hostname": "localhost"}),
        ({"ssl": True}, {"ssl": True, "server_hostname": "localhost"}),
        ({"ssl": CONTEXT}, {"ssl": CONTEXT, "server_hostname": "localhost"}),
        ({"server_hostname": "other"}, {"ssl": True, "server_hostname": "other"}),
        ({"host": "127.0.0.1"}, {"ssl": True, "server_hostname": "localhost", "host": "127.0.0.1"}),
    ],
)
@virtual
async def test_tls_checks_the_name_in_the_uri(options: Any, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = plain_text(monkeypatch)
    async with site([let_in], port=443) as web:
        async with connect("wss://localhost/", **options):
            pass
        assert seen == [{"host": "localhost", "port": 443, **told}]
        assert web.asked[0].headers["Host"] == ["localhost"]


@virtual
async def test_tls_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site([hang]) as web:
        web.converse = garbage  # type: ignore[method-assign]
        with pytest.raises(ssl.SSLError):
            await connect(f"wss://localhost:{web.port}/", ssl=ssl.create_default_context())


async def garbage(peer: RawPeer) -> None:
    await peer.send(b"this is no TLS record")
    with contextlib.suppress(OSError):
        await peer.read_until_eof()
    peer.close()


# -------------------------------------------------------------------------------------------------------- Unix sockets


@pytest.mark.parametrize(
    ("options", "host"),
    [({}, "localhost"), ({"uri": "ws://example.com:8000/a"}, "example.com:8000")],
)
@virtual
async def test_unix_socket(options: Any, host: str) -> None:
    listener = running_loop().network.listen_unix("/run/a")
    connecting = asyncio.create_task(unix_connect("/run/a", **options).connect())
    peer = await listener.peer()
    head = (await peer.read_until()).decode()
    assert f"\r\nHost: {host}\r\n" in head
    key = re.search(r"Sec-WebSocket-Key: (\S+)", head)
    assert key is not None
    await peer.send(wire.response(key=key[1]))
    connection = await connecting
    assert connection.remote_address == "/run/a"
    peer.reset()
    await connection.wait_closed()


def test_unix_socket_with_tls() -> None:
    assert unix_connect("/run/a", ssl=ssl.create_default_context()).uri == "wss://localhost/"
    assert unix_connect("/run/a", ssl=None).uri == "ws://localhost/"


@virtual
async def test_unix_socket_that_is_connected() -> None:
    listener = running_loop().network.listen_unix("/run/a")
    sock = await running_loop().network.open_unix("/run/a")
    connecting = asyncio.create_task(unix_connect(sock=sock).connect())
    peer = await listener.peer()
    await peer.read_until()
    peer.reset()
    with pytest.raises(InvalidMessage):
        await connecting


@virtual
async def test_unix_socket_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        await unix_connect("/run/a")


# --------------------------------------------------------------------------------------------- what the server answers


@pytest.mark.parametrize("chunker", CHUNKERS, ids=lambda chunker: chunker.__name__)
@virtual
async def test_frames_behind_the_response(chunker: Chunker) -> None:
    async def answer(peer: RawPeer, asked: Asked) -> None:
        for chunk in chunker(accepted(asked) + wire.text("first") + wire.text("second")):
            await peer.send(chunk)
            await steps(2)
        await peer.send(wire.close(1000))
        await peer.read_frame()

    async with site([answer]) as web, connect(web.uri()) as connection:
        assert [message async for message in connection] == ["first", "second"]


@virtual
async def test_close_behind_the_response() -> None:
    async with site([let_in_and_close(1013)]) as web, connect(web.uri()) as connection:
        with pytest.raises(ConnectionClosedError, match="^received 1013 "):
            await connection.recv()
        assert connection.close_code == 1013


@virtual
async def test_end_behind_the_response() -> None:
    async def answer(peer: RawPeer, asked: Asked) -> None:
        await peer.send(accepted(asked))

    async with site([answer]) as web, connect(web.uri()) as connection:
        with pytest.raises(ConnectionClosedError, match="^no close frame received or sent$"):
            await connection.recv()


def wrong(headers: wire.Headers) -> Callable[[RawPeer, Asked], Any]:
    async def answer(peer: RawPeer, asked: Asked) -> None:
        await peer.send(wire.response(headers=headers, key=asked.headers["Sec-WebSocket-Key"][0]))
        await peer.read_until_eof()

    return answer


async def reset(peer: RawPeer, asked: Asked) -> None:
    peer.reset()


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
@virtual
async def test_bad_answer(answer: Any, kind: type[Exception], text: str, cause: type[Exception] | None) -> None:
    async with site([answer]) as web:
        start = now()
        with pytest.raises(kind) as caught:
            await connect(web.uri())
        assert isinstance(caught.value, InvalidHandshake)
        assert str(caught.value) == text
        assert type(caught.value.__cause__) is (cause or type(None))
        await idle()
        assert now() == start
        # The TCP connection is gone, whatever the server thinks of it.
        assert web.peers[0].link.client.closed


@virtual
async def test_reset_is_the_root_cause() -> None:
    async with site([reset]) as web:
        with pytest.raises(InvalidMessage) as caught:
            await connect(web.uri())
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
@virtual
async def test_body_of_a_refusal(data: bytes) -> None:
    async with site([data]) as web:
        with pytest.raises(InvalidStatus) as caught:
            await connect(web.uri())
        assert caught.value.response.status_code == 404
        assert caught.value.response.body == b"not here"


@virtual
async def test_connection_that_is_lost_before_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def create_connection(*args: Any, **kwargs: Any) -> Any:
        transport, connection = await running_loop().network.create_connection(*args, **kwargs)
        transport.abort()
        await idle()
        return transport, connection

    async with site([let_in]) as web:
        monkeypatch.setattr(running_loop(), "create_connection", create_connection)
        with pytest.raises(InvalidMessage) as caught:
            await connect(web.uri())
        assert isinstance(caught.value.__cause__, EOFError)
        assert web.asked == []


@virtual
async def test_nobody_listens() -> None:
    with pytest.raises(ConnectionRefusedError):
        await connect("ws://localhost:20000/")


@virtual
async def test_name_that_has_no_address() -> None:
    running_loop().network.hosts["nowhere"] = []
    with pytest.raises(OSError, match="Name or service not known"):
        await connect("ws://nowhere/")


# ----------------------------------------------------------------------------------------------------------- deadlines


def drip(data: bytes) -> Callable[[RawPeer, Asked], Any]:
    async def answer(peer: RawPeer, asked: Asked) -> None:
        await peer.send(data)
        while True:
            await asyncio.sleep(0.5)
            await peer.send(b"a")

    return answer


SLOW = [
    hang,
    drip(b"HTTP/1.1 101 "),
    drip(b"HTTP/1.1 101 Switching Protocols\r\nX: "),
    drip(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 101 "),
]


@pytest.mark.scenario(71)
@pytest.mark.parametrize("answer", SLOW, ids=["silence", "status line", "header", "interim"])
@virtual
async def test_slow_server(answer: Any) -> None:
    async with site([answer]) as web:
        start = now()
        with pytest.raises(TimeoutError, match="^timed out during opening handshake$"):
            await connect(web.uri(), open_timeout=3)
        assert now() - start == 3
        await idle()
        assert web.peers[0].link.client.closed


SLOW_BODIES = {
    "endless body": drip(b"HTTP/1.1 503 Busy\r\n\r\n"),
    "body": drip(b"HTTP/1.1 503 Busy\r\nContent-Length: 1000\r\n\r\n"),
    "chunk": drip(b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n"),
    "HTTP/1.0": drip(b"HTTP/1.0 503\r\n\r\n"),
}


@pytest.mark.scenario(71)
@pytest.mark.parametrize("answer", SLOW_BODIES.values(), ids=SLOW_BODIES)
@virtual
async def test_refusal_whose_body_does_not_end(answer: Any) -> None:
    """It is a refusal all the same, when time is up."""
    async with site([answer, let_in]) as web:
        start = now()
        with pytest.raises(InvalidStatus, match="HTTP 503$") as caught:
            await connect(web.uri(), open_timeout=2.75)
        assert now() - start == 2.75
        assert caught.value.response.body == b"aaaaa"
        assert isinstance(caught.value.__cause__, TimeoutError)
        await idle()
        assert web.peers[0].link.client.closed


@virtual
async def test_refusal_whose_body_is_lost() -> None:
    async def reset(peer: RawPeer, asked: Asked) -> None:
        await peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1000\r\n\r\nbecause")
        await idle()
        peer.reset()

    async with site([reset]) as web:
        with pytest.raises(InvalidStatus, match="HTTP 403$") as caught:
            await connect(web.uri())
    assert caught.value.response.body == b"because"
    cause = caught.value.__cause__
    assert str(cause) == "stream ends after 7 bytes, expected 1000 bytes"
    assert isinstance(cause and cause.__cause__, ConnectionResetError)


@virtual
async def test_cancelled_in_the_body_of_a_refusal() -> None:
    async with site([drip(b"HTTP/1.1 503 Busy\r\n\r\n")]) as web:
        task = asyncio.create_task(connect(web.uri()).connect())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@virtual
async def test_no_time_after_a_redirect() -> None:
    """What the first server said is no reason for what the second one didn't say."""
    async with site([redirect("/b"), hang]) as web:
        with pytest.raises(TimeoutError, match="^timed out during opening handshake$"):
            await connect(web.uri())


@virtual
async def test_connecting_counts() -> None:
    running_loop().network.blackhole("localhost", 20000)
    start = now()
    with pytest.raises(TimeoutError, match="^timed out during opening handshake$"):
        await connect("ws://localhost:20000/")
    assert now() - start == 10


@virtual
async def test_no_open_timeout() -> None:
    async def answer(peer: RawPeer, asked: Asked) -> None:
        await asyncio.sleep(3600)
        await let_in(peer, asked)

    async with site([answer]) as web:
        start = now()
        async with connect(web.uri(), open_timeout=None):
            assert now() - start == 3600


@virtual
async def test_timeout_of_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    async def create_connection(*args: Any, **kwargs: Any) -> Any:
        raise TimeoutError(110, "Connection timed out")

    monkeypatch.setattr(running_loop(), "create_connection", create_connection)
    with pytest.raises(TimeoutError, match="Connection timed out"):
        await connect("ws://localhost/")


@pytest.mark.scenario(78)
@virtual
async def test_cancelled_at_any_step() -> None:
    """Wherever connecting is cancelled, the TCP connection is closed and nothing is left behind."""
    async with site([let_in]) as web:
        opened = 0
        for count in range(16):
            task = asyncio.create_task(connect(web.uri()).connect())
            await steps(count)
            if task.done():
                opened += 1
                await task.result().close()
                continue
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await idle()
            assert all(link.client.closed for link in running_loop().network.links)
        assert opened > 0


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
@virtual
async def test_target_of_a_uri_that_is_an_iri(target: str, sent: str) -> None:
    async with site([let_in]) as web:
        async with connect(web.uri(target)) as connection:
            assert connection.request is not None
            assert connection.request.path == sent
        assert web.targets == [sent]


@pytest.mark.parametrize("control", ["\0", "\t", "\r\n", "\x1f", "\x7f"])
@pytest.mark.parametrize("uri", ["ws://localhost/a{}b", "ws://localhost/?é {}b", "ws://u:p{}w@localhost/"])
def test_uri_with_a_control_character(uri: str, control: str) -> None:
    with pytest.raises(InvalidURI, match="it contains a control character$"):
        connect(uri.format(control))


# Names for which Python's resolver has nothing but a UnicodeError.
NO_NAMES = ["a..b", ".invalid", "a..", ".", "a" * 64, "a。。b", "é" * 63]


@pytest.mark.parametrize("host", NO_NAMES)
def test_host_that_no_resolver_takes(host: str) -> None:
    with pytest.raises(InvalidURI, match=r"hostname|outside ASCII"):
        connect(f"ws://{host}/")
    with pytest.raises(ValueError, match="^host must be a host: a str, not '.*': .*label"):
        connect("ws://localhost/", host=host)
    with pytest.raises(ValueError, match="^local_addr must be a pair of a host and a port, or None, not .*: .*label"):
        connect("ws://localhost/", local_addr=(host, 0))


def test_hosts_that_resolvers_take() -> None:
    for host in (None, "localhost.", "bücher.example", b"localhost", "fe80::1%eth0", "0.0.0.0"):
        connect("ws://localhost/", host=host)
        connect("ws://localhost/", local_addr=None if host is None else (host, 0))
    connect("ws://localhost/", happy_eyeballs_delay=0, interleave=0)
    connect("ws://localhost/", happy_eyeballs_delay=None, interleave=None)
    with pytest.raises(ValueError, match="^happy_eyeballs_delay must be a number of seconds, 0 or more"):
        connect("ws://localhost/", happy_eyeballs_delay=-1)
    with pytest.raises(TypeError, match="^interleave must be a whole number, 0 or more"):
        connect("ws://localhost/", interleave=1.5)


@pytest.mark.parametrize("host", [host for host in NO_NAMES if host.isascii()])
@virtual
async def test_redirect_to_a_host_that_no_resolver_takes(host: str) -> None:
    async with site([redirect(f"ws://{host}/"), redirect(f"//{host}/")]) as web:
        for _ in range(2):
            with pytest.raises(InvalidURI, match="hostname has"):
                await connect(web.uri())


@pytest.mark.parametrize("host", NO_NAMES)
@virtual
async def test_proxy_that_no_resolver_takes(host: str) -> None:
    for scheme in ("http", "https", "socks5h"):
        with pytest.raises(InvalidProxy, match=r"hostname|outside ASCII"):
            await connect("ws://localhost/", proxy=f"{scheme}://{host}:8080")


@virtual
async def test_redirects_keep_a_zone() -> None:
    running_loop().network.hosts["fe80::1%eth0"] = ["127.0.0.1"]
    async with site({"/a": redirect("/b"), "/b": let_in}, port=8000) as web:
        async with connect("ws://[fe80::1%25eth0]:8000/a") as connection:
            assert connection.protocol.uri.host == "fe80::1%eth0"
        assert [request.headers["Host"] for request in web.asked] == [["[fe80::1]:8000"]] * 2


@virtual
async def test_credentials_with_blanks() -> None:
    async with site([let_in]) as web:
        async with connect(web.uri().replace("ws://", "ws://user:pass word@")):
            pass
        assert web.asked[0].headers["Authorization"] == ["Basic dXNlcjpwYXNzIHdvcmQ="]


# ----------------------------------------------------------------------------------------------------------- redirects


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/b?c", "b?c", "ws://localhost:8000/b?c", "//localhost:8000/b?c", "./x/../b?c"])
@virtual
async def test_redirect(status: int, location: str) -> None:
    async with site({"/a": redirect(location, status), "/b?c": let_in}, port=8000) as web:
        connecting = connect(web.uri("/a"))
        async with connecting as connection:
            assert connection.request is not None
            assert connection.request.path == "/b?c"
            assert connection.protocol.uri.resource_name == "/b?c"
        assert web.targets == ["/a", "/b?c"]
        assert len({peer.link.client.getsockname() for peer in web.peers}) == 2
        assert web.peers[0].link.closed
        # Another use begins where the first one did.
        assert connecting.uri == web.uri("/a")
        async with connecting:
            pass
        assert web.targets == ["/a", "/b?c"] * 2
        keys = [asked.headers["Sec-WebSocket-Key"][0] for asked in web.asked]
        assert len(set(keys)) == 4


@pytest.mark.parametrize(
    ("location", "target"),
    [("/b c", "/b%20c"), ("b?c=d e", "/b?c=d%20e"), ("/%C3%A9%20 x", "/%C3%A9%20%20x"), ("?c d", "/a%20b?c%20d")],
)
@virtual
async def test_redirect_with_a_blank(location: str, target: str) -> None:
    async with site({"/a%20b": redirect(location), target: let_in}) as web:
        async with connect(web.uri("/a b")):
            pass
        assert web.targets == ["/a%20b", target]


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/caf\xc3\xa9?\xc3\xa9#top", "/caf%C3%A9?%C3%A9"),
        ("/caf\xe9", "/caf%E9"),
        ("caf\xc3\xa9 %20%C3%A9", "/caf%C3%A9%20%20%C3%A9"),
        ("http://localhost:8000/b#top", "/b"),
        ("HTTP://localhost:8000/b", "/b"),
    ],
)
@virtual
async def test_redirect_as_servers_write_them(location: str, target: str) -> None:
    async with site({"/a": redirect(location, 308), target: let_in}, port=8000) as web:
        async with connect(web.uri("/a")):
            pass
        assert web.targets == ["/a", target]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\nsome text",
        b"HTTP/1.1 301\r\nContent-Length: 9\r\nLocation: /b\r\n\r\n",
        b"HTTP/1.0 302 Found\r\nLocation:\r\n /b\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 307 x\r\nTransfer-Encoding: chunked\r\nLocation: /b\r\n\r\nx\r\n",
    ],
)
@virtual
async def test_redirect_whose_body_does_not_end(head: bytes) -> None:
    async def answer(peer: RawPeer, asked: Asked) -> None:
        await peer.send(head)
        await asyncio.sleep(3600)

    async with site({"/a": answer, "/b": let_in}) as web:
        async with connect(web.uri("/a")):
            pass
        assert web.times == [0, 0]


@virtual
async def test_redirect_with_a_blank_in_credentials() -> None:
    async with site({"/a": redirect("ws://us er:p w@localhost:8000/b"), "/b": let_in}, port=8000) as web:
        async with connect(web.uri("/a")):
            pass
        assert web.asked[1].headers["Authorization"] == ["Basic dXMgZXI6cCB3"]


@pytest.mark.parametrize("status", [304, 305, 306, 309, 200, 404])
@virtual
async def test_no_redirect(status: int) -> None:
    async with site({"/a": redirect("/b", status)}) as web:
        with pytest.raises(InvalidStatus, match=f"HTTP {status}$"):
            await connect(web.uri("/a"))


@pytest.mark.parametrize("location", [None, ["/b", "/c"]])
@virtual
async def test_redirect_to_nowhere_or_to_several_places(location: Any) -> None:
    async with site({"/a": redirect(location)}) as web:
        with pytest.raises(InvalidStatus, match="HTTP 302$"):
            await connect(web.uri("/a"))


@pytest.mark.scenario(72)
@virtual
async def test_redirects_are_counted() -> None:
    async with site([redirect("/next")]) as web:
        with pytest.raises(SecurityError, match="^more than 10 redirects$"):
            await connect(web.uri())
        assert len(web.asked) == 10


@virtual
async def test_as_many_redirects_as_allowed() -> None:
    async with site([redirect("/next")] * 9 + [let_in]) as web:
        async with connect(web.uri()):
            pass
        assert len(web.asked) == 10


BAD_LOCATIONS = [
    ("http:", InvalidURI),
    ("https:///", InvalidURI),
    ("file:///etc/passwd", InvalidURI),
    ("ws://[::1:bad/", InvalidURI),
    ("ws://localhost:99999/", InvalidURI),
    ("ws://local host/", InvalidURI),
    ("ws://caf\xe9/", InvalidURI),
    ("/a\tb", InvalidURI),
    ("", InvalidHeader),
]


@pytest.mark.scenario(72)
@pytest.mark.parametrize(("location", "kind"), BAD_LOCATIONS)
@virtual
async def test_redirect_to_what_is_no_place(location: str, kind: type[Exception]) -> None:
    async with site([redirect(location)]) as web:
        with pytest.raises(kind):
            await connect(web.uri())
        await idle()
        assert len(web.asked) == 1


@pytest.mark.scenario(72)
@virtual
async def test_credentials_stay_with_their_origin() -> None:
    """Another scheme, host or port is another origin."""
    secrets = {"Authorization": "Basic secret", "cookie": "secret", "Proxy-Authorization": "secret", "X": "kept"}
    async with site({"/c": let_in}, "other", 80) as other:
        async with site({"/a": redirect("/b"), "/b": redirect("ws://other/c")}, port=80) as web:
            async with connect("ws://localhost/a", additional_headers=secrets):
                pass
    for asked in web.asked:
        assert {"Authorization", "cookie", "Proxy-Authorization", "X"} <= set(asked.headers)
    (asked,) = other.asked
    assert "secret" not in str(asked)
    assert asked.headers["X"] == ["kept"]
    assert secrets["cookie"] == "secret"


@pytest.mark.scenario(72)
@pytest.mark.parametrize("target", ["ws://localhost:81/", "ws://LOCALHOST:81/", "ws://other/", "wss://localhost:80/"])
@virtual
async def test_what_is_another_origin(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_text(monkeypatch)
    headers = [("Cookie", "a"), ("Cookie", "b")]
    running_loop().network.hosts["other"] = ["127.0.0.1"]
    async with site([let_in], port=81) as second, site([redirect(target), let_in], port=80) as first:
        async with connect("ws://localhost/", additional_headers=headers):
            pass
    assert first.asked[0].headers["Cookie"] == ["a", "b"]
    assert "Cookie" not in [*first.asked, *second.asked][-1].headers


@virtual
async def test_credentials_once_lost_stay_lost() -> None:
    async with site([redirect("ws://localhost:80/back")], port=81):
        async with site({"/": redirect("ws://localhost:81/"), "/back": let_in}, port=80) as web:
            async with connect("ws://localhost/", additional_headers={"Cookie": "secret"}):
                pass
    assert [asked.headers.get("Cookie") for asked in web.asked] == [["secret"], None]


@virtual
async def test_credentials_in_the_uri() -> None:
    async with site([let_in], "other", 80) as other:
        async with site({"/a": redirect("/b"), "/b": redirect("ws://other/")}, port=80) as web:
            async with connect("ws://user:pass@localhost/a"):
                pass
    assert [asked.headers.get("Authorization") for asked in web.asked] == [["Basic dXNlcjpwYXNz"]] * 2
    assert "Authorization" not in other.asked[0].headers


@pytest.mark.scenario(72)
@virtual
async def test_redirect_that_gives_up_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_text(monkeypatch)
    async with site([redirect("ws://localhost/")], port=443) as web:
        error = "^cannot follow redirect to non-secure URI ws://localhost/$"
        with pytest.raises(SecurityError, match=error):
            await connect("wss://localhost/")
        assert len(web.asked) == 1


@virtual
async def test_redirect_to_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = plain_text(monkeypatch)
    async with site([let_in], port=443), site([redirect("wss://localhost/")], port=80):
        async with connect("ws://localhost/"):
            pass
        assert [kwargs.get("ssl") for kwargs in seen] == [None, True]
    async with site([redirect("wss://localhost/")], port=80):
        with pytest.raises(ValueError, match="^ssl=None is incompatible with a wss:// URI$"):
            await connect("ws://localhost/", ssl=None)


@pytest.mark.parametrize(
    ("location", "name"),
    [("wss://elsewhere/", "elsewhere"), ("https://elsewhere/", "elsewhere"), ("/b", "given")],
)
@virtual
async def test_tls_checks_the_name_of_where_a_redirect_leads(
    location: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = plain_text(monkeypatch)
    async with site([redirect(location), let_in], port=443), site([let_in], "elsewhere", 443):
        async with connect("wss://localhost/", server_hostname="given"):
            pass
    # An empty name would turn the check off, and the other server had not been meant.
    assert [kwargs["server_hostname"] for kwargs in seen] == ["given", name]


@pytest.mark.parametrize("location", ["/b", "ws://other/"])
@virtual
async def test_redirect_of_a_connected_socket(location: str) -> None:
    async with site([redirect(location)]) as web:
        sock = await running_loop().network.open("localhost", web.port)
        with pytest.raises(ValueError, match=r"^cannot follow redirect to \S+ with a preexisting socket$") as caught:
            await connect(f"ws://user:secret@localhost:{web.port}/", sock=sock)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("place", ["host", "port"])
@virtual
async def test_redirect_of_an_explicit_place(place: str) -> None:
    async with site([redirect("/b"), redirect("ws://other/"), let_in], "elsewhere", 8000) as web:
        options: dict[str, Any] = {"host": "elsewhere"} if place == "host" else {"port": 8000}
        uri = "ws://example.com:8000/a" if place == "host" else "ws://elsewhere/a"
        error = f"^cannot follow cross-origin redirect to ws://other/ with an explicit {place}$"
        with pytest.raises(ValueError, match=error):
            await connect(uri, **options)
        assert web.targets == ["/a", "/b"]


@virtual
async def test_redirect_of_a_unix_socket() -> None:
    listener = running_loop().network.listen_unix("/run/a")
    connecting = asyncio.create_task(unix_connect("/run/a").connect())
    for location in ("/b", "ws://other/"):
        peer = await listener.peer()
        await peer.read_until()
        await peer.send(redirect(location))
        peer.close()
    with pytest.raises(ValueError, match="^cannot follow cross-origin redirect to ws://other/ with an explicit unix$"):
        await connecting


@virtual
async def test_one_deadline_for_all_redirects() -> None:
    async def slow(peer: RawPeer, asked: Asked) -> None:
        await asyncio.sleep(2)
        await peer.send(redirect("/next"))

    async with site([slow]) as web:
        start = now()
        with pytest.raises(TimeoutError, match="^timed out during opening handshake$"):
            await connect(web.uri(), open_timeout=5)
        assert now() - start == 5
        assert len(web.asked) == 3


# ------------------------------------------------------------------------------------------------------------- secrets


@pytest.mark.scenario(73)
@virtual
async def test_credentials_are_in_no_error_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.client")
    shown: list[str] = []
    async with site([refuse(401), b"garbage\r\n\r\n", redirect("ws://[::1:bad/"), redirect("/a b"), hang]) as web:
        for _ in range(5):
            with pytest.raises((InvalidHandshake, InvalidURI, TimeoutError)) as caught:
                await connect(f"ws://user:secret@localhost:{web.port}/", open_timeout=1)
            shown += [str(caught.value), repr(caught.value)]
    shown += [record.getMessage() for record in caplog.records]
    for secret in ("secret", "dXNlcjpzZWNyZXQ="):
        assert secret not in "\n".join(shown)


@pytest.mark.scenario(73)
@virtual
async def test_bad_uri_does_not_show_credentials() -> None:
    with pytest.raises(InvalidURI) as caught:
        connect("ws://user:secret@localhost:99999/")
    assert "secret" not in str(caught.value) + repr(caught.value)


# ------------------------------------------------------------------------------------------------------------------ log


@virtual
async def test_records_carry_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "websockets.client")
    ids: list[Any] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            connection = getattr(record, "websocket", None)
            ids.append(None if connection is None else connection.id)

    collector = Collector()
    logging.getLogger("websockets.client").addHandler(collector)
    try:
        async with site([let_in]) as web, connect(web.uri()) as connection:
            pass
    finally:
        logging.getLogger("websockets.client").removeHandler(collector)
    # The first line comes before there is a connection.
    assert ids[0] is None
    assert set(ids[1:]) == {connection.id}


@virtual
async def test_logger_of_ones_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mine")
    async with site([let_in]) as web, connect(web.uri(), logger=logging.getLogger("mine")):
        pass
    assert {record.name for record in caplog.records} == {"mine"}
    assert "= connection is OPEN" in [record.getMessage() for record in caplog.records]


# ------------------------------------------------------------------------------------------------- a few real sockets


async def test_real_sockets() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
        assert key is not None
        writer.write(wire.response(key=key[1].decode(), body=wire.text("hello") + wire.close(1000)))
        await reader.read(100)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/") as connection:
            assert await connection.recv() == "hello"
            with pytest.raises(ConnectionClosedOK):
                await connection.recv()


# ------------------------------------------------------------------------------------------- given up while it opens


class GivesUp(ClientConnection):
    """Fails its protocol as soon as there is a connection to the server."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(1, self.give_up)

    def give_up(self) -> None:
        self.protocol.fail(1011, "enough")


class Closes(GivesUp):
    """Closes itself meanwhile, as users may."""

    def give_up(self) -> None:
        self.closing = asyncio.ensure_future(self.close())


async def answer_late(peer: RawPeer, asked: Asked) -> None:
    await asyncio.sleep(2)
    with contextlib.suppress(OSError):
        await peer.send(accepted(asked))
        await peer.read_until_eof()


@pytest.mark.parametrize(("how", "server"), [(GivesUp, answer_late), (Closes, answer_late), (Closes, hang)])
@virtual
async def test_a_connection_that_was_given_up_is_not_returned(how: type[ClientConnection], server: Any) -> None:
    async with site([server]) as web:
        with pytest.raises(InvalidMessage, match="^did not receive a valid HTTP response$") as caught:
            await connect(web.uri(), create_connection=how)
        assert str(caught.value.__cause__) == "opening handshake was given up"
