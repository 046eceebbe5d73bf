"""Clients of the legacy API: connecting, hooks, redirects, refusals, and connecting again after anything."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import warnings
from collections.abc import Generator
from typing import Any

import pytest

from _kit import RawPeer, idle, virtual, wire
from _kit.asking import uri_of
from _kit.site import Answer, Asked, let_in, let_in_and_close, redirect, refuse, site
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosedError,
    InvalidHeader,
    InvalidMessage,
    InvalidURI,
    NegotiationError,
    SecurityError,
)
from websockets.http11 import USER_AGENT
from websockets.legacy.client import Connect, WebSocketClientProtocol, connect
from websockets.legacy.exceptions import InvalidStatusCode, RedirectHandshake
from websockets.legacy.server import WebSocketServerProtocol, serve
from websockets.protocol import State
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri


async def echo(websocket: WebSocketServerProtocol) -> None:
    async for message in websocket:
        await websocket.send(message)


# ---------------------------------------------------------------------------------------------------------- connecting


@virtual
async def test_three_uses() -> None:
    async with serve(echo, "localhost", 0) as server:
        client = await connect(uri_of(server))
        await client.send("one")
        assert await client.recv() == "one"
        await client.close()
        connecting = connect(uri_of(server))
        async with connecting as client:
            assert connecting.protocol is client
            await client.send("two")
            assert await client.recv() == "two"
        assert client.closed
        async for client in connect(uri_of(server)):
            await client.send("three")
            assert await client.recv() == "three"
            break
        await idle()


class SetUpLate(Connect):
    """As classes that open the TCP connection themselves do it: nothing is set up before somebody waits."""

    ways: list[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.ways = []
        self.arguments = args, kwargs

    def __await__(self) -> Generator[Any, None, WebSocketClientProtocol]:
        return self._set_up().__await__()

    async def _set_up(self) -> WebSocketClientProtocol:
        self.ways.append("__await__")
        arguments, options = self.arguments
        super().__init__(*arguments, **options)
        return await self.__await_impl__()


class Waiting(Connect):
    """A class that overrides the other part."""

    async def __await_impl__(self) -> WebSocketClientProtocol:
        websocket = await super().__await_impl__()
        websocket.waited = True  # type: ignore[attr-defined]
        return websocket


@virtual
async def test_classes_that_have_their_own_way_to_be_awaited() -> None:
    async with serve(echo, "localhost", 0) as server:
        connecting = SetUpLate(uri_of(server), max_size=5)
        client = await connecting
        assert (client.max_size, connecting.protocol) == (5, client)
        await client.close()
        async with SetUpLate(uri_of(server)) as client:
            await client.send("two")
            assert await client.recv() == "two"
        assert client.close_code == 1000
        again = SetUpLate(uri_of(server))
        async for client in again:
            assert client.open
            if len(again.ways) == 3:
                break
        await client.close()
        assert again.ways == ["__await__"] * 3
        async with Waiting(uri_of(server)) as client:
            assert client.waited
        client = await Waiting(uri_of(server))
        assert client.waited
        await client.close()


@virtual
async def test_one_object_for_several_connections() -> None:
    async with serve(echo, "localhost", 0) as server:
        connecting = connect(uri_of(server))
        async with connecting as first:
            async with connecting as second:
                assert connecting.protocol is second
            assert second.closed
        # The last one is what it closes.
        assert first.open
        await first.close()


@virtual
async def test_leaving_what_was_not_entered() -> None:
    with pytest.raises(AttributeError, match=r"^'Connect' object has no attribute 'protocol'$"):
        await connect("ws://localhost").__aexit__(None, None, None)


@virtual
async def test_block_that_fails() -> None:
    seen: list[WebSocketClientProtocol] = []

    async def fail(uri: str) -> None:
        async with connect(uri) as client:
            seen.append(client)
            raise KeyError

    async with serve(echo, "localhost", 0) as server:
        with pytest.raises(KeyError):
            await fail(uri_of(server))
        assert (seen[0].closed, seen[0].close_code) == (True, 1000)


@virtual
async def test_request() -> None:
    async with site([let_in]) as web:
        options: dict[str, Any] = {
            "origin": Origin("http://here"),
            "extra_headers": [("X-One", "1"), ("X-Two", "2")],
            "subprotocols": [Subprotocol("a"), Subprotocol("b")],
            "user_agent_header": "me",
        }
        async with connect(web.uri("/p?q"), **options) as client:
            assert client.path == "/p?q"
            assert client.request_headers["X-One"] == "1"
            assert client.response_headers["Upgrade"] == "websocket"
            assert (client.open, client.state) == (True, State.OPEN)
        (asked,) = web.asked
        assert asked.target == "/p?q"
        assert asked.headers["Origin"] == ["http://here"]
        assert (asked.headers["X-One"], asked.headers["X-Two"]) == (["1"], ["2"])
        assert asked.headers["Sec-WebSocket-Protocol"] == ["a, b"]
        assert asked.headers["Sec-WebSocket-Extensions"] == ["permessage-deflate; client_max_window_bits"]
        assert asked.headers["User-Agent"] == ["me"]


@virtual
async def test_headers_that_a_connection_was_given() -> None:
    made: list[dict[str, Any]] = []

    class Noting(WebSocketClientProtocol):
        def __init__(self, **kwargs: Any) -> None:
            made.append(kwargs)
            super().__init__(**kwargs)

    headers = {"X-One": "1"}
    async with site([let_in]) as web:
        async with connect(web.uri(), create_protocol=Noting, extra_headers=headers, user_agent_header="me") as client:
            assert client.extra_headers is headers
            assert client.user_agent_header == "me"
        assert client.extra_headers is headers
        async with connect(web.uri(), create_protocol=Noting) as client:
            assert (client.extra_headers, client.user_agent_header) == (None, USER_AGENT)
    assert [(kwargs["extra_headers"], kwargs["user_agent_header"]) for kwargs in made] == [
        (headers, "me"),
        (None, USER_AGENT),
    ]


@pytest.mark.parametrize("headers", [None, {"X-Given": "1"}])
@virtual
async def test_headers_that_a_class_chooses(headers: Any) -> None:
    class Choosing(WebSocketClientProtocol):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.extra_headers = {"X-Own": "2"}
            self.user_agent_header = "mine"

    async with site([let_in]) as web:
        async with connect(web.uri(), create_protocol=Choosing, extra_headers=headers):
            pass
        asked = web.asked[0].headers
        assert (asked.get("X-Given"), asked["X-Own"], asked["User-Agent"]) == (None, ["2"], ["mine"])


@virtual
async def test_credentials_stay_with_their_origin() -> None:
    secrets = {"Authorization": "secret", "X": "kept"}
    async with site([let_in], "other", 80) as other:
        async with site([redirect("ws://other/")], port=80) as web:
            async with connect("ws://localhost/", extra_headers=secrets) as client:
                assert client.extra_headers == Headers({"X": "kept"})
        assert "Authorization" in web.asked[0].headers
        assert "Authorization" not in other.asked[0].headers
        assert other.asked[0].headers["X"] == ["kept"]


@virtual
async def test_user_agent() -> None:
    async with site([let_in]) as web:
        async with connect(web.uri()):
            pass
        async with connect(web.uri(), user_agent_header=None):
            pass
        async with connect(web.uri(), extra_headers={"User-Agent": "other"}):
            pass
    assert [asked.headers.get("User-Agent") for asked in web.asked] == [[USER_AGENT], None, ["other"]]


@virtual
async def test_arguments_of_old() -> None:
    class Derived(WebSocketClientProtocol):
        pass

    loop = asyncio.get_running_loop()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        connecting = connect("ws://localhost:1", timeout=3, klass=Derived, loop=loop)
    assert sorted(str(warning.message) for warning in caught) == [
        "remove loop argument",
        "rename klass to create_protocol",
        "rename timeout to close_timeout",
    ]
    assert {warning.filename for warning in caught} == {__file__}
    async with site([let_in]) as web:
        connecting.uri, connecting._ws_connector_state.first = web.uri(), parse_uri(web.uri())
        async with connecting as client:
            assert type(client) is Derived
            assert client.close_timeout == 3


@virtual
async def test_recv_of_old() -> None:
    async with site([let_in_and_close(1011)]) as web:
        with pytest.warns(DeprecationWarning, match=r"^legacy_recv is deprecated$"):
            client = await connect(web.uri(), legacy_recv=True)
        assert await client.recv() is None
        assert client.close_code == 1011


def test_options_are_checked_at_once() -> None:
    with pytest.raises(InvalidURI):
        connect("http://localhost")
    with pytest.raises(ValueError, match="incompatible with a ws:// URI"):
        connect("ws://localhost", ssl=True)
    with pytest.raises(ValueError, match="unsupported compression"):
        connect("ws://localhost", compression="zip")
    with pytest.raises(TypeError, match="subprotocols must be a list"):
        connect("ws://localhost", subprotocols="chat")  # type: ignore[arg-type]


DEFAULTS: dict[str, Any] = {
    "create_protocol": None,
    "logger": None,
    "compression": "deflate",
    "origin": None,
    "extensions": None,
    "subprotocols": None,
    "extra_headers": None,
    "user_agent_header": USER_AGENT,
    "open_timeout": 10,
    "ping_interval": 20,
    "ping_timeout": 20,
    "close_timeout": None,
    "max_size": 2**20,
    "max_queue": 2**5,
    "read_limit": 2**16,
    "write_limit": 2**16,
}


def test_defaults() -> None:
    """They are those of releases before 14.0, and differ from today's."""
    parameters = inspect.signature(connect).parameters.values()
    keyword_only = [parameter for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    assert {parameter.name: parameter.default for parameter in keyword_only} == DEFAULTS


class Told(WebSocketClientProtocol):
    """A connection that keeps what it was told."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.options = kwargs
        super().__init__(*args, **kwargs)


def told(client: WebSocketClientProtocol) -> dict[str, Any]:
    """The options of a connection that say how it is to work."""
    assert isinstance(client, Told)
    names = ["ping_interval", "ping_timeout", "close_timeout", "max_size", "max_queue", "read_limit", "write_limit"]
    return {name: client.options[name] for name in names}


@virtual
async def test_options_of_a_connection() -> None:
    async with site([let_in]) as web:
        async with connect(web.uri(), create_protocol=Told) as client:
            assert told(client) == {
                "ping_interval": 20,
                "ping_timeout": 20,
                "close_timeout": 10,
                "max_size": 2**20,
                "max_queue": 32,
                "read_limit": 2**16,
                "write_limit": 2**16,
            }
        options: dict[str, Any] = {
            "ping_interval": 1,
            "ping_timeout": 2,
            "close_timeout": 3,
            "max_size": 4,
            "max_queue": 5,
            "read_limit": 6,
            "write_limit": 7,
        }
        async with connect(web.uri(), create_protocol=Told, **options) as client:
            assert told(client) == options
            assert {name: getattr(client, name) for name in options} == options


@virtual
async def test_limits_of_a_connection_take_effect() -> None:
    async with site([let_in]) as web:
        async with connect(web.uri()) as client:
            assert client.transport.get_write_buffer_limits() == (2**14, 2**16)
            assert (client._ws_session.inbox.high, client._ws_session.inbox.low) == (32, 8)
            assert client._ws_session.timing == (20, 20, 10, None)
        async with connect(web.uri(), write_limit=1000, max_queue=4, ping_interval=1, ping_timeout=2) as client:
            assert client.transport.get_write_buffer_limits() == (250, 1000)
            assert (client._ws_session.inbox.high, client._ws_session.inbox.low) == (4, 1)
            assert client._ws_session.timing == (1, 2, 10, None)


@virtual
async def test_messages_that_are_too_large() -> None:
    async def send(websocket: WebSocketServerProtocol) -> None:
        await websocket.send(bytes(2**20))
        await websocket.send(bytes(2**20 + 1))

    async with serve(send, "localhost", 0, compression=None) as server:
        async with connect(uri_of(server)) as client:
            assert await client.recv() == bytes(2**20)
            with pytest.raises(ConnectionClosedError, match="1009"):
                await client.recv()
        async with connect(uri_of(server), max_size=None) as client:
            assert [len(await client.recv()) for _ in range(2)] == [2**20, 2**20 + 1]


@virtual
async def test_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with site([let_in]) as web:
        async with connect(web.uri(), logger=logging.getLogger("mine")) as client:
            client.logger.info("hello")
        async with connect(web.uri()) as client:
            client.logger.info("good day")
    said = {record.getMessage(): record.name for record in caplog.records if record.levelname == "INFO"}
    assert said == {"hello": "mine", "good day": "websockets.client"}
    # What the connection says itself goes the same way.
    for name in ("mine", "websockets.client"):
        lines = [record.getMessage() for record in caplog.records if record.name == name]
        assert "> GET / HTTP/1.1" in lines
        assert "= connection is CLOSED" in lines


@virtual
async def test_time_limit() -> None:
    async def say_nothing(peer: Any, asked: Any) -> None:
        await peer.read_until_eof()

    async with site([say_nothing]) as web:
        with pytest.raises(TimeoutError):
            await connect(web.uri(), open_timeout=3)
        assert asyncio.get_running_loop().time() - web.asked[0].time == pytest.approx(3)


@virtual
async def test_no_proxy_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://localhost:9")
    monkeypatch.setenv("ws_proxy", "http://localhost:9")
    async with site([let_in], "example.com", 80) as web:
        async with connect("ws://example.com/"):
            pass
        assert web.targets == ["/"]


# ------------------------------------------------------------------------------------------------------------- refusals


@virtual
async def test_refusal() -> None:
    async with site([refuse(403, {"X-Why": "because"})]) as web:
        with pytest.raises(InvalidStatusCode, match=r"^server rejected WebSocket connection: HTTP 403$") as caught:
            await connect(web.uri())
        assert caught.value.status_code == 403
        assert caught.value.headers["X-Why"] == "because"


def keep_open(data: bytes) -> Answer:
    """An answer after which the server leaves the connection open, and says no more."""

    async def answer(peer: Any, asked: Any) -> None:
        await peer.send(data)
        with contextlib.suppress(ConnectionResetError):
            await peer.read_until_eof()

    return answer


@pytest.mark.parametrize(
    "rest",
    [
        b"\r\n",
        b"\r\nthe beginning",
        b"Content-Length: 10\r\n\r\nabc",
        b"Content-Length: 99999999999\r\n\r\n",
        b"Content-Length: what\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        b"\r\n" + b"x" * 2_000_000,
    ],
    ids=lambda rest: rest[:40].decode(),
)
@virtual
async def test_refusal_whose_body_does_not_end(rest: bytes) -> None:
    async with site([keep_open(b"HTTP/1.1 401 Unauthorized\r\nX-Why: because\r\n" + rest)]) as web:
        before = asyncio.get_running_loop().time()
        with pytest.raises(InvalidStatusCode) as caught:
            await connect(web.uri())
        assert asyncio.get_running_loop().time() == before
        assert (caught.value.status_code, caught.value.headers["X-Why"]) == (401, "because")


@virtual
async def test_redirect_whose_body_does_not_end() -> None:
    answers: dict[str, Answer] = {
        "/a": keep_open(b"HTTP/1.1 302 Found\r\nLocation: /b c\r\n\r\nsome text"),
        "/b%20c": keep_open(b"HTTP/1.1 301 Moved\r\nContent-Length: 9\r\nLocation: /d\r\n\r\n"),
        "/d": let_in,
    }
    async with site(answers) as web:
        async with connect(web.uri("/a")) as client:
            assert client.path == "/d"
        assert web.times == [0, 0, 0]


@virtual
async def test_head_of_a_refusal_in_pieces() -> None:
    async def answer(peer: Any, asked: Any) -> None:
        for piece in (b"HTTP/1.1 4", b"03 Forbidden\r\nX", b"-Why: because\r", b"\n\r\n", b"Forbidden"):
            await peer.send(piece)
            await asyncio.sleep(1)

    async with site([answer]) as web:
        with pytest.raises(InvalidStatusCode) as caught:
            await connect(web.uri())
        assert caught.value.headers["X-Why"] == "because"
        assert asyncio.get_running_loop().time() - web.asked[0].time == pytest.approx(3)


@virtual
async def test_headers_beyond_ascii() -> None:
    """What is sent is in UTF-8, and received bytes can be had back."""
    name = {"X-Name": "né".encode() + b"\xff"}
    asked: list[str] = []

    async def let_in_with_name(peer: RawPeer, question: Asked) -> None:
        asked.extend(question.headers["X-Mine"])
        await peer.send(wire.response(key=question.headers["Sec-WebSocket-Key"][0], headers=name))

    async with site([let_in_with_name, refuse(403, name)]) as web:
        client = await connect(web.uri(), extra_headers={"X-Mine": "né"})
        await client.wait_closed()
        assert client.request_headers["X-Mine"] == "né"
        assert client.response_headers["X-Name"].encode("ascii", "surrogateescape") == b"n\xc3\xa9\xff"
        with pytest.raises(InvalidStatusCode) as caught:
            await connect(web.uri())
        assert caught.value.headers["X-Name"] == "n\udcc3\udca9\udcff"
    assert asked == ["n\xc3\xa9"]


@virtual
async def test_what_is_no_answer() -> None:
    async def hang_up(peer: Any, asked: Any) -> None:
        pass

    async with site([hang_up, b"rubbish\r\n\r\n", wire.response(headers={"Sec-WebSocket-Protocol": "other"})]) as web:
        for _ in range(2):
            with pytest.raises(InvalidMessage):
                await connect(web.uri())
        with pytest.raises(Exception, match="Sec-WebSocket-Accept"):
            await connect(web.uri())


@virtual
async def test_redirects() -> None:
    answers: dict[str, Answer] = {
        "/a": redirect("/b"),
        "/b": redirect("/c?d", 307),
        "/c?d": let_in,
        "/loop": redirect("/loop"),
    }
    async with site(answers) as web:
        async with connect(web.uri("/a")) as client:
            assert client.path == "/c?d"
        assert web.targets == ["/a", "/b", "/c?d"]
        with pytest.raises(SecurityError, match="more than 10 redirects"):
            await connect(web.uri("/loop"))


@virtual
async def test_a_class_with_fewer_redirects() -> None:
    class Few(Connect):
        MAX_REDIRECTS_ALLOWED = 3

    async with site({"/": redirect("/")}) as web:
        with pytest.raises(SecurityError, match="more than 3 redirects"):
            await Few(web.uri())
        assert web.targets == ["/"] * 3


@virtual
async def test_redirect_to_nowhere() -> None:
    for location, text in (
        ("ftp://example.com/", "ftp://example.com/"),
        ("/a\tb", "not allowed"),
        ("ws://a b/", "hostname"),
        ("ws://[::1/", "malformed"),
        ("ws://caf\xe9/", "UTF-8"),
    ):
        async with site([redirect(location)]) as web:
            with pytest.raises(InvalidURI, match=text):
                await connect(web.uri())
            assert len(web.asked) == 1
    async with site([redirect("")]) as web:
        with pytest.raises(InvalidHeader, match="^empty Location header$"):
            await connect(web.uri())


@virtual
async def test_redirects_as_servers_write_them() -> None:
    answers: dict[str, Answer] = {
        "/a": redirect("/caf\xc3\xa9#top"),
        "/caf%C3%A9": redirect("http://localhost:8000/caf\xe9 %C3%A9"),
        "/caf%E9%20%C3%A9": keep_open(b"HTTP/1.1 103 x\r\n\r\nHTTP/1.0 302\r\nLocation:\r\n /d\r\n\r\nsome text"),
        "/d": let_in,
    }
    async with site(answers, port=8000) as web:
        async with connect(web.uri("/a")) as client:
            assert client.path == "/d"
        assert web.targets == list(answers)


@virtual
async def test_uri_with_blanks() -> None:
    async with site({"/a%20b?c%20%C3%A9": redirect("?d e"), "/a%20b?d%20e": let_in}) as web:
        async with connect(web.uri("/a b?c é")) as client:
            assert client.path == "/a%20b?d%20e"
        with pytest.raises(InvalidURI, match="control character"):
            connect(web.uri("/a\r\nb"))


@virtual
async def test_giving_up_while_opening() -> None:
    async def say_nothing(peer: Any, asked: Any) -> None:
        await peer.read_until_eof()

    async with site([say_nothing]) as web:
        _, client = await asyncio.get_running_loop().create_connection(WebSocketClientProtocol, "localhost", web.port)
        opening = asyncio.create_task(client.handshake(parse_uri(web.uri())))
        await idle()
        client.fail_connection()
        with pytest.raises(InvalidMessage, match="did not receive a valid HTTP response"):
            await opening


# ---------------------------------------------------------------------------------------------------------------- hooks


@virtual
async def test_hooks() -> None:
    calls: list[str] = []

    class Hooked(WebSocketClientProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            calls.append("connection_made")
            super().connection_made(transport)

        async def handshake(self, *args: Any, **kwargs: Any) -> None:
            calls.append("handshake")
            await super().handshake(*args, **kwargs)

        def write_http_request(self, path: str, headers: Headers) -> None:
            calls.append(f"write_http_request {path}")
            headers["X-Written"] = "yes"
            super().write_http_request(path, headers)

        async def read_http_response(self) -> tuple[int, Headers]:
            status, headers = await super().read_http_response()
            calls.append(f"read_http_response {status}")
            return status, headers

        @staticmethod
        def process_extensions(headers: Headers, available_extensions: Any) -> Any:
            calls.append("process_extensions")
            return WebSocketClientProtocol.process_extensions(headers, available_extensions)

        @staticmethod
        def process_subprotocol(headers: Headers, available_subprotocols: Any) -> Any:
            calls.append("process_subprotocol")
            return WebSocketClientProtocol.process_subprotocol(headers, available_subprotocols)

        def connection_open(self) -> None:
            calls.append("connection_open")
            super().connection_open()

        def connection_lost(self, exc: Exception | None) -> None:
            calls.append("connection_lost")
            super().connection_lost(exc)

    async with serve(echo, "localhost", 0, subprotocols=[Subprotocol("a")]) as server:
        async with connect(uri_of(server, "/x"), create_protocol=Hooked, subprotocols=[Subprotocol("a")]) as client:
            (websocket,) = server.websockets
            assert websocket.request_headers["X-Written"] == "yes"
            assert client.subprotocol == "a"
            assert len(client.extensions) == 1
    assert calls == [
        *("connection_made", "handshake", "write_http_request /x", "process_extensions", "process_subprotocol"),
        *("read_http_response 101", "connection_open", "connection_lost"),
    ]


@virtual
async def test_hook_that_refuses() -> None:
    class Strict(WebSocketClientProtocol):
        @staticmethod
        def process_subprotocol(headers: Headers, available_subprotocols: Any) -> Any:
            raise NegotiationError("no thanks")

    async with site([let_in]) as web:
        with pytest.raises(NegotiationError, match="no thanks"):
            await connect(web.uri(), create_protocol=Strict)


@virtual
async def test_handshake_by_hand() -> None:
    """Programs that bring their own connection call handshake() themselves."""
    loop = asyncio.get_running_loop()
    async with site([let_in, refuse(404), redirect("/elsewhere")]) as web:
        for expected in (None, InvalidStatusCode, RedirectHandshake):
            _, client = await loop.create_connection(WebSocketClientProtocol, "localhost", web.port)
            assert (client.state, client.open) == (State.CONNECTING, False)
            handshake = client.handshake(parse_uri(web.uri("/by-hand")), extra_headers={"X-Hand": "1"})
            if expected is None:
                await handshake
                await client.close()
            else:
                with pytest.raises(expected):
                    await handshake
                client.fail_connection()
                await client.wait_closed()
        assert [asked.headers["X-Hand"] for asked in web.asked] == [["1"]] * 3
        assert web.targets == ["/by-hand"] * 3


# ----------------------------------------------------------------------------------------------------- connecting again


@virtual
async def test_connecting_again_after_anything() -> None:
    class Quick(Connect):
        BACKOFF_INITIAL = 0.0
        BACKOFF_MIN = 2.0
        BACKOFF_MAX = 5.0
        BACKOFF_FACTOR = 2.0

    answers: list[Any] = [
        refuse(404),
        b"rubbish\r\n\r\n",
        refuse(401),
        redirect("http://x/"),
        let_in_and_close(after=60),
    ]
    async with site(answers) as web:
        async for client in Quick(web.uri()):
            await client.wait_closed()
            break
        assert web.times == [0, 0, 2, 6, 11]


@virtual
async def test_failed_attempts_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    class Quick(Connect):
        BACKOFF_INITIAL = 0.0

    caplog.set_level(logging.INFO, "websockets.client")
    async with site([refuse(404), let_in]) as web:
        async for _ in Quick(web.uri()):
            break
        await idle()
    assert [record.getMessage() for record in caplog.records] == [
        "connect failed; reconnecting in 0.0 seconds: "
        "websockets.legacy.exceptions.InvalidStatusCode: server rejected WebSocket connection: HTTP 404"
    ]


def test_delays_by_default() -> None:
    assert Connect.BACKOFF_INITIAL == 5
    assert (Connect.BACKOFF_MIN, Connect.BACKOFF_MAX, Connect.BACKOFF_FACTOR) == (3.1, 90.0, 1.618)
