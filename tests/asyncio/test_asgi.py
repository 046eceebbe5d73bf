"""ASGI applications on connections, as uvicorn starts them: phases, events, back-pressure, shutdown, what goes wrong.

uvicorn itself isn't needed: a protocol here reads the head of the request and hands the transport over as it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from _kit import RawPeer, VirtualLoop, advance, idle, request, virtual, wire
from websockets.asgi import CLOSE_TIMEOUT, MAX_EARLY, Disconnected, UvicornProtocol
from websockets.exceptions import InvalidHeaderFormat, InvalidHeaderValue, ProtocolError
from websockets.protocol import State

LOGGER = "uvicorn.error"

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

ACCEPT: Event = {"type": "websocket.accept"}
CLOSE: Event = {"type": "websocket.close"}
CONNECT: Event = {"type": "websocket.connect"}
LOST: Event = {"type": "websocket.disconnect", "code": 1006}


def text(data: str) -> Event:
    return {"type": "websocket.send", "text": data}


def start(status: int, *headers: tuple[bytes, bytes]) -> Event:
    return {"type": "websocket.http.response.start", "status": status, "headers": headers}


def body(data: bytes, more: bool = False) -> Event:
    return {"type": "websocket.http.response.body", "body": data, "more_body": more}


class Front(asyncio.Protocol):
    """A protocol for HTTP: it hands a connection over when the head of a request is there."""

    def __init__(self, server: Uvicorn) -> None:
        self.server = server
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.data += data
        if b"\r\n\r\n" in self.data:
            state = cast(Any, self.server.state)
            protocol = UvicornProtocol(config=self.server.config, server_state=state, app_state=self.server.app_state)
            protocol.connection_made(self.transport)
            protocol.data_received(self.data)
            self.transport.set_protocol(protocol)
            self.server.made.append(protocol)


class Uvicorn:
    """The parts of a uvicorn server that a protocol sees."""

    def __init__(self, application: Any, **settings: Any) -> None:
        self.config: Any = SimpleNamespace(
            **{
                "loaded_app": application,
                "asgi_version": "3.0",
                "root_path": "",
                "ws_max_size": 2**24,
                "ws_max_queue": 32,
                "ws_ping_interval": None,
                "ws_ping_timeout": 20.0,
                "ws_per_message_deflate": False,
                **settings,
            }
        )
        self.state = SimpleNamespace(connections=set(), tasks=set(), default_headers=[(b"server", b"uvicorn")])
        self.app_state: dict[str, Any] = {}
        self.made: list[UvicornProtocol] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        network = running_loop().network
        server = await network.create_server(lambda: Front(self), "localhost")
        self.port = int(server.sockets[0].getsockname()[1])
        try:
            yield
        finally:
            server.close()

    async def ask(self, data: bytes = request()) -> RawPeer:
        """A client that sent its request."""
        peer = await running_loop().network.connect("localhost", self.port)
        await peer.send(data)
        await idle()
        return peer

    async def enter(self, data: bytes = request()) -> RawPeer:
        """A client that was accepted."""
        peer = await self.ask(data)
        assert (await peer.read_until()).startswith(b"HTTP/1.1 101 ")
        return peer

    def shutdown(self) -> None:
        for connection in list(self.state.connections):
            connection.shutdown()


def running_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


async def echo(scope: Event, receive: Receive, send: Send) -> None:
    assert await receive() == CONNECT
    await send(ACCEPT)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


class App:
    """An application that accepts and notes all events, until the end."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        await receive()
        await send(ACCEPT)
        while not self.events or self.events[-1]["type"] != "websocket.disconnect":
            await self.go_on.wait()
            self.events.append(await receive())


class Script:
    """An application that sends messages, and notes what each of them raised."""

    def __init__(self, *messages: Any) -> None:
        self.messages = messages
        self.raised: list[BaseException | None] = []
        self.last: Event | None = None

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        for message in self.messages:
            try:
                await send(message)
                self.raised.append(None)
            except Exception as exc:
                self.raised.append(exc)
        self.last = await receive()


async def refused(peer: RawPeer) -> tuple[bytes, bytes]:
    """The head and the body of a response that ends the connection."""
    head, _, rest = (await peer.read_until_eof()).partition(b"\r\n\r\n")
    peer.close()
    return head, rest


def over(server: Uvicorn) -> bool:
    return not server.state.connections and not server.state.tasks


# --------------------------------------------------------------------------------------------------------- messages


@virtual
async def test_echo(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    server = Uvicorn(echo)
    async with server.running():
        peer = await server.enter(request(target="/a%20b?c=d"))
        await peer.send(wire.text("hello", mask=True) + wire.binary(b"\x00\xff", mask=True))
        assert await peer.read_exactly(11) == wire.text("hello") + wire.binary(b"\x00\xff")
        await peer.send(wire.text("frag", fin=False, mask=True) + wire.cont("ment", mask=True))
        assert await peer.read_frame() == wire.parse(wire.text("fragment"))[0][0]
        await peer.send(wire.close(1000, mask=True))
        assert await peer.read_until_eof() == wire.close(1000)
        peer.close()
        await idle()
        assert over(server)
    assert [record.getMessage().partition(" - ")[2] for record in caplog.records if " - " in record.getMessage()] == [
        '"WebSocket /a%20b?c=d" [accepted]'
    ]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@virtual
async def test_events_of_a_client_that_closes() -> None:
    app = App()
    server = Uvicorn(app)
    async with server.running():
        peer = await server.enter()
        await peer.send(wire.text("a", mask=True) + wire.binary(b"b", mask=True) + wire.close(3001, "bye", mask=True))
        await idle()
        # The application knows before the TCP connection is over.
        assert server.state.connections
        assert app.events == [
            {"type": "websocket.receive", "text": "a"},
            {"type": "websocket.receive", "bytes": b"b"},
            {"type": "websocket.disconnect", "code": 3001, "reason": "bye"},
        ]
        # Whatever happens afterwards, it is the same again.
        assert await app.receive() == app.events[-1]
        with pytest.raises(Disconnected):
            await app.send(text("late"))
        with pytest.raises(Disconnected):
            await app.send(CLOSE)
        peer.close()
        await idle()
        assert await app.receive() == app.events[-1]
        assert over(server)


@pytest.mark.parametrize("code", [None, 1001])
@virtual
async def test_messages_before_the_close_frame_come_first(code: int | None) -> None:
    app = App()
    app.go_on.clear()
    server = Uvicorn(app)
    async with server.running():
        peer = await server.enter()
        await peer.send(wire.text("a", mask=True) * 3 + wire.close(code, mask=True))
        await advance(1)
        app.go_on.set()
        await idle()
        assert [event.get("text") for event in app.events] == ["a", "a", "a", None]
        assert app.events[-1] == {"type": "websocket.disconnect", "code": code or 1005, "reason": ""}
        peer.close()
        await idle()


@virtual
async def test_messages_before_a_violation_come_first() -> None:
    app = App()
    app.go_on.clear()
    server = Uvicorn(app)
    async with server.running():
        peer = await server.enter()
        await peer.send(wire.text("a", mask=True) + wire.text("b", rsv=1, mask=True))
        await advance(1)
        app.go_on.set()
        await idle()
        assert app.events[0] == {"type": "websocket.receive", "text": "a"}
        assert [event.get("code") for event in app.events] == [None, 1002]
        peer.close()
        await idle()


@pytest.mark.parametrize("how", ["eof", "reset", "abort"])
@virtual
async def test_client_that_vanishes(how: str) -> None:
    app = App()
    server = Uvicorn(app)
    async with server.running():
        peer = await server.enter()
        if how == "abort":
            server.made[0].abort()
        elif how == "reset":
            peer.link.reset()
        else:
            peer.close()
        await idle()
        assert app.events == [LOST]
        assert over(server)


@virtual
async def test_deflate_by_its_setting() -> None:
    offer = request(headers={"Sec-WebSocket-Extensions": "permessage-deflate"})
    for setting in (True, False):
        server = Uvicorn(echo, ws_per_message_deflate=setting)
        async with server.running():
            peer = await server.ask(offer)
            assert (b"permessage-deflate" in await peer.read_until()) is setting
            peer.close()
            await idle()


@virtual
async def test_message_that_is_too_big() -> None:
    app = App()
    server = Uvicorn(app, ws_max_size=10)
    async with server.running():
        peer = await server.enter()
        await peer.send(wire.text("x" * 11, mask=True))
        frame = await peer.read_frame()
        assert frame.payload[:2] == (1009).to_bytes(2, "big")
        peer.close()
        await idle()
        assert [event["code"] for event in app.events] == [1009]
        assert app.events[0]["reason"]


@pytest.mark.parametrize("interval", [None, 0, 20.0])
@virtual
async def test_keepalive_by_its_settings(interval: float | None) -> None:
    app = App()
    server = Uvicorn(app, ws_ping_interval=interval, ws_ping_timeout=5.0)
    async with server.running():
        peer = await server.enter()
        await advance(60)
        if interval:
            assert app.events == [{"type": "websocket.disconnect", "code": 1011, "reason": "keepalive ping timeout"}]
            assert over(server)
        else:
            assert not app.events
            assert peer.unread == b""
        peer.close()
        await idle()


@virtual
async def test_application_that_reads_slowly_stops_the_reading() -> None:
    app = App()
    app.go_on.clear()
    server = Uvicorn(app, ws_max_queue=4)
    async with server.running():
        peer = await server.enter()
        message = wire.binary(bytes(2**16), mask=True)
        sending = asyncio.ensure_future(peer.send(message * 100))
        await advance(10)
        assert not sending.done()
        assert server.made[0].statistics.messages_received < 20
        app.go_on.set()
        await idle()
        assert sending.done()
        assert len(app.events) == 100
        peer.close()
        await idle()


@pytest.mark.parametrize("message", [{"type": "websocket.send", "bytes": bytes(2**16)}, text("x" * 2**16)])
@virtual
async def test_send_waits_while_the_client_reads_slowly(message: Event) -> None:
    sent = 0

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        nonlocal sent
        await receive()
        await send(ACCEPT)
        await receive()
        for _ in range(100):
            await send(message)
            sent += 1
        await send(CLOSE)

    server = Uvicorn(application)
    async with server.running():
        peer = await server.enter()
        peer.stop_reading()
        await peer.send(wire.text("go on", mask=True))
        await advance(100)
        assert sent < 20
        peer.resume_reading()
        await idle()
        assert sent == 100
        rows, _ = wire.parse(peer.unread)
        assert len(rows) == 101
        peer.close()
        await idle()


@virtual
async def test_send_that_waits_ends_with_the_connection() -> None:
    raised: list[BaseException] = []

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        async def flood() -> None:
            try:
                while True:
                    await send({"type": "websocket.send", "bytes": bytes(2**16)})
            except OSError as exc:
                raised.append(exc)

        await receive()
        await send(ACCEPT)
        await receive()
        # The second task waits before it sends, as the buffer is full then.
        await asyncio.gather(flood(), flood())

    server = Uvicorn(application)
    async with server.running():
        peer = await server.enter()
        peer.stop_reading()
        await peer.send(wire.text("go on", mask=True))
        await advance(1)
        assert not raised
        peer.link.reset()
        await idle()
        assert [type(exc) for exc in raised] == [Disconnected, Disconnected]
        assert over(server)


# ------------------------------------------------------------------------------------------------------ the handshake


@virtual
async def test_scope() -> None:
    app = App()
    server = Uvicorn(app, root_path="/mounted")
    server.app_state = {"a": [1]}
    async with server.running():
        offer = {"Sec-WebSocket-Protocol": ["a, b", "c"], "X-Name": "\xe9"}
        peer = await server.enter(request(target="/x%2Fy?q=%20", headers=offer))
        scope = app.scope
        assert scope["state"] == {"a": [1]}
        assert scope["state"] is not server.app_state
        assert scope["path"] == "/mounted/x/y"
        assert scope["subprotocols"] == ["a", "b", "c"]
        assert (b"x-name", b"\xe9") in scope["headers"]
        assert scope["scheme"] == "ws"
        assert scope["server"][1] == server.port
        assert scope["client"] == server.made[0].remote_address[:2]
        peer.close()
        await idle()


@pytest.mark.parametrize("data", [request(headers={"Sec-WebSocket-Version": "12"}), b"GET / HTTP/1.1\r\n:\r\n\r\n"])
@virtual
async def test_request_that_is_no_handshake(data: bytes) -> None:
    server = Uvicorn(echo)
    async with server.running():
        head, _ = await refused(await server.ask(data))
        assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 426 "))
        await idle()
        assert over(server)


@virtual
async def test_subprotocol_and_headers() -> None:
    app = Script({**ACCEPT, "subprotocol": "b", "headers": [(b"Set-Cookie", b"a=1"), [b"set-cookie", b"b=2"]]})
    server = Uvicorn(app)
    async with server.running():
        peer = await server.ask(request(headers={"Sec-WebSocket-Protocol": "a, b"}))
        head = await peer.read_until()
        assert b"\r\nSec-WebSocket-Protocol: b\r\n" in head
        assert head.count(b"ookie: ") == 2
        assert b"\r\nserver: uvicorn\r\n" in head
        assert b"\r\nDate: " not in head
        assert server.made[0].subprotocol == "b"
        peer.close()
        await idle()


@pytest.mark.parametrize(
    ("message", "error", "says"),
    [
        ({"headers": [(b"X", b"a\r\nSet-Cookie: b")]}, InvalidHeaderValue, "X"),
        ({"headers": [(b"X\r\nY", b"a")]}, InvalidHeaderFormat, "expected token"),
        ({"headers": [("X", b"a")]}, TypeError, "headers of websocket.accept must be pairs of bytes, not ('X', b'a')"),
        ({"headers": [b"X: a"]}, TypeError, "must be pairs of bytes"),
        ({"headers": [(b"X",)]}, TypeError, "must be pairs of bytes"),
        ({"headers": [(b"Sec-WebSocket-Accept", b"x")]}, ValueError, "must not set Sec-WebSocket-Accept"),
        ({"headers": [(b"sec-websocket-protocol", b"x")]}, ValueError, "use subprotocol"),
        ({"subprotocol": "a\r\nX: b"}, ValueError, "not a token"),
        ({"subprotocol": "a, b"}, ValueError, "not a token"),
        ({"subprotocol": b"a"}, TypeError, "must be str, not bytes"),
    ],
)
@virtual
async def test_accept_that_cannot_be_sent(message: Event, error: type[Exception], says: str) -> None:
    """It changes nothing: the application may accept in another way."""
    app = Script({**ACCEPT, **message}, {**ACCEPT, "headers": [(b"X-Second", b"1")]})
    server = Uvicorn(app)
    async with server.running():
        peer = await server.ask()
        assert b"\r\nX-Second: 1\r\n" in await peer.read_until()
        first, second = app.raised
        assert isinstance(first, error)
        assert says in str(first)
        assert second is None
        peer.close()
        await idle()


@virtual
async def test_close_refuses_the_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    app = Script(CLOSE, ACCEPT)
    server = Uvicorn(app)
    async with server.running():
        head, rest = await refused(await server.ask())
        assert head.startswith(b"HTTP/1.1 403 ")
        assert rest == b""
        await idle()
        assert app.last == LOST
        assert isinstance(app.raised[1], RuntimeError)
        assert over(server)
    assert '"WebSocket /" 403' in caplog.text


@virtual
async def test_client_that_vanishes_before_the_answer() -> None:
    events: list[Any] = []
    go_on = asyncio.Event()

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        events.append(await receive())
        events.append(await receive())
        await go_on.wait()
        for message in (ACCEPT, CLOSE, start(200)):
            with pytest.raises(Disconnected):
                await send(message)

    server = Uvicorn(application)
    async with server.running():
        peer = await server.ask()
        assert events == [CONNECT]
        peer.close()
        await idle()
        assert events == [CONNECT, LOST]
        go_on.set()
        await idle()
        assert over(server)


@virtual
async def test_data_before_the_answer() -> None:
    """It is kept up to a limit, and then not read."""
    app = App()
    accept = asyncio.Event()

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await accept.wait()
        await app(scope, receive, send)

    server = Uvicorn(application)
    async with server.running():
        peer = await server.ask(request() + wire.text("early", mask=True))
        sending = asyncio.ensure_future(peer.send(wire.binary(bytes(1000), mask=True) * 10_000))
        await advance(1)
        assert not sending.done()
        assert server.made[0].statistics.bytes_received < MAX_EARLY + 2**19
        accept.set()
        await advance(1)
        assert sending.done()
        assert app.events[0] == {"type": "websocket.receive", "text": "early"}
        assert len(app.events) == 10_001
        peer.close()
        await idle()


@virtual
async def test_data_before_the_head_of_a_response_is_sent() -> None:
    """It is sent with the first piece of the body."""
    go_on = asyncio.Event()

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await send(start(200))
        await go_on.wait()
        await send(body(b"a", True))
        await send(body(b"b"))

    server = Uvicorn(application)
    async with server.running():
        peer = await server.ask()
        sending = asyncio.ensure_future(peer.send(bytes(10_000_000)))
        await advance(1)
        assert not sending.done()
        assert server.made[0].statistics.bytes_received < MAX_EARLY + 2**19
        go_on.set()
        await advance(1)
        assert sending.done()
        assert (await peer.read_until_eof()).endswith(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
        peer.close()
        await idle()
        assert over(server)


@virtual
async def test_receive_that_waits_while_another_task_accepts() -> None:
    got: list[Event] = []

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        assert await receive() == CONNECT
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(1)
        await send(ACCEPT)
        got.append(await waiting)
        # And while another task closes.
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(1)
        await send({**CLOSE, "code": 4000, "reason": "enough"})
        got.append(await waiting)
        got.append(await receive())

    server = Uvicorn(application)
    async with server.running():
        peer = await server.ask()
        await advance(1)
        await peer.send(wire.text("first", mask=True))
        await advance(1)
        end = {"type": "websocket.disconnect", "code": 4000, "reason": "enough"}
        assert got == [{"type": "websocket.receive", "text": "first"}, end, end]
        peer.close()
        await idle()


@virtual
async def test_accept_before_the_first_event() -> None:
    got: list[Event] = []

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        got.append(await receive())
        got.append(await receive())

    server = Uvicorn(application)
    async with server.running():
        peer = await server.enter()
        peer.close()
        await idle()
        assert got == [CONNECT, LOST]


# ----------------------------------------------------------------------------------------------- an HTTP response


@pytest.mark.parametrize(
    ("messages", "headers", "content"),
    [
        ([start(401, (b"x-a", b"1")), body(b"no")], [b"x-a: 1", b"Content-Length: 2"], b"no"),
        ([start(401, (b"content-length", b"4")), body(b"no", True), body(b"no")], [b"content-length: 4"], b"nono"),
        ([start(401, (b"server", b"mine"), (b"connection", b"upgrade")), body(b"")], [b"server: mine"], b""),
        (
            [start(503), body(b"a" * 10, True), body(b"", True), body(b"bc")],
            [b"Transfer-Encoding: chunked", b"server: uvicorn", b"Connection: close"],
            b"a\r\naaaaaaaaaa\r\n2\r\nbc\r\n0\r\n\r\n",
        ),
        ([start(204), body(b"x", True), body(b"y")], [], b""),
        ([start(204), body(b"x")], [], b""),
        ([start(599), {"type": "websocket.http.response.body"}], [b"Content-Length: 0"], b""),
    ],
)
@virtual
async def test_response(messages: list[Event], headers: list[bytes], content: bytes) -> None:
    app = Script(*messages, body(b"more"))
    server = Uvicorn(app)
    async with server.running():
        head, rest = await refused(await server.ask())
        status, *lines = head.split(b"\r\n")
        assert status.startswith(b"HTTP/1.1 %d " % messages[0]["status"])
        assert {*headers} <= {*lines}
        assert len([line for line in lines if line.lower().startswith((b"connection", b"server"))]) == 2
        assert rest == content
        await idle()
        assert app.raised[:-1] == [None] * len(messages)
        assert isinstance(app.raised[-1], RuntimeError)
        assert app.last == LOST
        assert over(server)


@virtual
async def test_big_response_waits_for_the_client() -> None:
    pieces = 0
    go_on = asyncio.Event()

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        nonlocal pieces
        await go_on.wait()
        await send(start(200))
        for _ in range(100):
            await send(body(bytes(2**16), True))
            pieces += 1
        await send(body(b""))

    server = Uvicorn(application)
    async with server.running():
        peer = await server.ask()
        peer.stop_reading()
        go_on.set()
        # Closing is limited only after the response.
        await advance(10 * CLOSE_TIMEOUT)
        assert pieces < 20
        peer.resume_reading()
        await idle()
        assert pieces == 100
        _, rest = await refused(peer)
        assert rest.endswith(b"\r\n0\r\n\r\n")
        assert rest.count(b"\r\n10000\r\n") == 99
        await idle()
        assert over(server)


@virtual
async def test_response_that_nobody_reads_to_its_end() -> None:
    go_on = asyncio.Event()

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await send(start(200))
        await send(body(bytes(2**15), True))
        await send(body(bytes(2**20)))

    server = Uvicorn(application)
    async with server.running():
        peer = await server.ask()
        peer.stop_reading()
        go_on.set()
        await advance(CLOSE_TIMEOUT - 1)
        assert server.state.connections
        await advance(2)
        assert over(server)
        peer.close()


@pytest.mark.parametrize("when", ["head", "body"])
@virtual
async def test_client_that_vanishes_during_a_response(when: str) -> None:
    raised: list[BaseException] = []
    go_on = asyncio.Event()

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(start(200))
        if when == "body":
            await send(body(b"x", True))
        assert await receive() == LOST
        await go_on.wait()
        try:
            await send(body(b"y"))
        except OSError as exc:
            raised.append(exc)

    server = Uvicorn(application)
    async with server.running():
        peer = await server.ask()
        peer.link.reset()
        await idle()
        go_on.set()
        await idle()
        assert [type(exc) for exc in raised] == [Disconnected]
        assert over(server)


@virtual
async def test_end_of_a_response_after_the_client_ended_the_stream() -> None:
    """The transport is closing then, and isn't written to."""

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(start(200))
        await send(body(b"x", True))
        server.made[0].transport.close()
        await send(body(b"y"))

    server = Uvicorn(application)
    async with server.running():
        _, rest = await refused(await server.ask())
        assert rest == b"1\r\nx\r\n"
        await idle()
        assert over(server)


@pytest.mark.parametrize(
    ("message", "error", "says"),
    [
        (start(101), ValueError, "must be from 200 to 599, not 101"),
        (start(700), ValueError, "must be from 200 to 599, not 700"),
        ({"type": "websocket.http.response.start"}, TypeError, "must be int, not NoneType"),
        (start(200, (b"X", b"a\r\nb")), InvalidHeaderValue, "X"),
        (start(200, (b"Content-Length", b"-1")), ValueError, "must be one number, not -1"),
        (start(200, (b"Content-Length", b"4 ")), ValueError, "must be one number, not 4 "),
        (start(200, (b"Content-Length", b"\xb2")), ValueError, "must be one number, not \xb2"),
        (start(200, (b"Content-Length", b"1" * 5000)), ValueError, "must be one number, not 1"),
        (start(200, (b"Content-Length", b"4"), (b"content-length", b"5")), ValueError, "must be one number, not 4, 5"),
    ],
)
@virtual
async def test_response_that_cannot_be_sent(message: Event, error: type[Exception], says: str) -> None:
    app = Script(message, start(200), {"type": "websocket.http.response.body", "body": "text"}, body(b"fine"))
    server = Uvicorn(app)
    async with server.running():
        head, rest = await refused(await server.ask())
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert rest == b"fine"
        await idle()
        first, second, third, fourth = app.raised
        assert isinstance(first, error)
        assert says in str(first)
        assert isinstance(third, TypeError)
        assert "body of websocket.http.response.body must be bytes, not str" in str(third)
        assert second is None
        assert fourth is None


LONGER, SHORTER = "Response content longer than Content-Length", "Response content shorter than Content-Length"


@pytest.mark.parametrize(
    ("length", "pieces", "says", "content"),
    [
        (3, [body(b"abcd"), body(b"abc")], LONGER, b"abc"),
        (3, [body(b"ab"), body(b"abc")], SHORTER, b"abc"),
        (3, [body(b"ab", True), body(b"cd"), body(b"c")], LONGER, b"abc"),
        (3, [body(b"ab", True), body(b"cd", True), body(b"c")], LONGER, b"abc"),
        (3, [body(b"ab", True), body(b""), body(b"c", True), body(b"")], SHORTER, b"abc"),
    ],
)
@virtual
async def test_body_that_is_not_as_long_as_announced(
    length: int, pieces: list[Event], says: str, content: bytes
) -> None:
    """A piece that is wrong isn't sent, and the application may send another one."""
    app = Script(start(200, (b"content-length", b"%d" % length)), *pieces)
    server = Uvicorn(app)
    async with server.running():
        _, rest = await refused(await server.ask())
        assert rest == content
        await idle()
        assert [str(exc) for exc in app.raised if exc is not None] == [says]
        assert over(server)


@virtual
async def test_length_where_there_is_no_body() -> None:
    """RFC 9110 section 8.6: 204 has none, and 304 tells the length of another response."""
    for status, announced in ((204, False), (304, True)):
        server = Uvicorn(Script(start(status, (b"content-length", b"3")), body(b"abc")))
        async with server.running():
            head, rest = await refused(await server.ask())
            assert (b"content-length: 3" in head, rest) == (announced, b"")


# --------------------------------------------------------------------------------------------- wrong applications


@pytest.mark.parametrize(
    ("message", "error", "says"),
    [
        (ACCEPT, RuntimeError, "Expected ASGI message 'websocket.send' or 'websocket.close' but got"),
        (start(200), RuntimeError, "but got 'websocket.http.response.start'"),
        ({"type": "websocket.foo"}, RuntimeError, "but got 'websocket.foo'"),
        ({}, TypeError, "a dict with a str as its type, not {}"),
        ("text", TypeError, "a dict with a str as its type, not 'text'"),
        ({"type": "websocket.send"}, TypeError, "websocket.send needs text or bytes"),
        ({"type": "websocket.send", "text": None, "bytes": None}, TypeError, "needs text or bytes"),
        ({"type": "websocket.send", "text": b"x"}, TypeError, "text of websocket.send must be str, not bytes"),
        ({"type": "websocket.send", "bytes": "x"}, TypeError, "bytes of websocket.send must be bytes, not str"),
        ({**CLOSE, "code": 1006}, ProtocolError, "invalid status code"),
        ({**CLOSE, "reason": "x" * 124}, ProtocolError, "too long"),
    ],
)
@virtual
async def test_message_that_is_wrong_changes_nothing(message: Any, error: type[Exception], says: str) -> None:
    app = Script(ACCEPT, message, text("fine"), {**CLOSE, "code": None, "reason": None})
    server = Uvicorn(app)
    async with server.running():
        peer = await server.enter()
        assert await peer.read_exactly(10) == wire.text("fine") + wire.close(1000)
        await idle()
        assert isinstance(app.raised[1], error)
        assert says in str(app.raised[1])
        assert app.raised[2:] == [None, None]
        assert app.last == {"type": "websocket.disconnect", "code": 1000}
        peer.close()
        await idle()


@virtual
async def test_send_after_close() -> None:
    app = Script(ACCEPT, CLOSE, text("late"), CLOSE)
    server = Uvicorn(app)
    async with server.running():
        peer = await server.enter()
        await idle()
        for raised in app.raised[2:]:
            assert isinstance(raised, RuntimeError)
            assert "the application has already closed or responded" in str(raised)
        await peer.send(wire.text("crossing", mask=True) + wire.close(1000, mask=True))
        assert await peer.read_until_eof() == wire.close(1000)
        peer.close()
        await idle()
        assert over(server)


@virtual
async def test_client_that_does_not_answer_the_close_frame() -> None:
    server = Uvicorn(Script(ACCEPT, CLOSE))
    async with server.running():
        peer = await server.enter()
        await advance(CLOSE_TIMEOUT - 1)
        assert server.state.connections
        assert not server.state.tasks
        await advance(2)
        assert over(server)
        peer.close()


async def fails(scope: Event, receive: Receive, send: Send) -> None:
    raise KeyError("broken on purpose")


async def returns(scope: Event, receive: Receive, send: Send) -> None: ...


async def gives_up(scope: Event, receive: Receive, send: Send) -> None:
    raise Disconnected("another connection")


@pytest.mark.parametrize(
    ("application", "line"),
    [
        (fails, "Exception in ASGI application\n"),
        (gives_up, "Exception in ASGI application\n"),
        (returns, "ASGI callable returned without completing handshake."),
    ],
)
@virtual
async def test_application_that_ends_without_an_answer(
    application: Any, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = Uvicorn(application)
    async with server.running():
        head, rest = await refused(await server.ask())
        assert head.startswith(b"HTTP/1.1 500 ")
        assert b"\r\nContent-Length: 21\r\n" in head + b"\r\n"
        assert rest == b"Internal Server Error"
        await idle()
        assert over(server)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [line]


@pytest.mark.parametrize(("application", "errors"), [(fails, 1), (returns, 0), (lambda *_: _one(), 1)])
@virtual
async def test_application_that_ends_without_closing(
    application: Any, errors: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The client sees that the end wasn't regular, after what was sent."""

    async def accepts(scope: Event, receive: Receive, send: Send) -> Any:
        await receive()
        await send(ACCEPT)
        await send(text("x"))
        return await application(scope, receive, send)

    server = Uvicorn(accepts)
    async with server.running():
        peer = await server.enter()
        assert await peer.read_until_eof() == wire.text("x")
        peer.close()
        await idle()
        assert over(server)
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == errors


@virtual
async def test_tasks_of_a_group_that_do_not_catch_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Event, receive: Receive, send: Send) -> None:
        async def write() -> None:
            while True:
                await send(text("tick"))
                await asyncio.sleep(1)

        await receive()
        await send(ACCEPT)
        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            group.create_task(write())

    server = Uvicorn(application)
    async with server.running():
        peer = await server.enter()
        peer.close()
        await advance(2)
        assert over(server)
    assert not [record for record in caplog.records if record.levelno == logging.ERROR]


@virtual
async def test_application_that_spoils_its_scope(caplog: pytest.LogCaptureFixture) -> None:
    """It learns of that, and the client is accepted all the same."""
    caplog.set_level(logging.INFO)
    raised = list[Exception]()

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        scope["path"] = None
        try:
            await send(ACCEPT)
        except Exception as exc:
            raised.append(exc)
        await send(text("hello"))
        await send(CLOSE)

    server = Uvicorn(application)
    async with server.running():
        peer = await server.enter()
        assert await peer.read_exactly(11) == wire.text("hello") + wire.close(1000)
        peer.close()
        await idle()
        assert [type(exc) for exc in raised] == [TypeError]
        assert over(server)


@virtual
async def test_order_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """As with uvicorn's own protocols."""
    caplog.set_level(logging.INFO)
    server = Uvicorn(App())
    async with server.running():
        peer = await server.enter()
        peer.close()
        await idle()
    accepted, opened, closed = caplog.messages
    assert "[accepted]" in accepted
    assert opened.startswith("connection open")
    assert closed.startswith("connection closed")


async def _one() -> int:
    return 1


@virtual
async def test_application_that_does_not_catch_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        await send(text("late"))

    server = Uvicorn(application)
    async with server.running():
        peer = await server.enter()
        peer.close()
        await idle()
        assert over(server)
    assert not [record for record in caplog.records if record.levelno == logging.ERROR]


@virtual
async def test_application_that_ends_after_the_client(caplog: pytest.LogCaptureFixture) -> None:
    go_on = asyncio.Event()

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await go_on.wait()

    server = Uvicorn(application)
    async with server.running():
        peer = await server.ask()
        peer.close()
        await idle()
        go_on.set()
        await idle()
        assert over(server)
    assert not [record for record in caplog.records if record.levelno == logging.ERROR]


@pytest.mark.parametrize(
    ("head", "fails", "status"),
    [
        (start(404), False, b"404 Not Found"),
        (start(404, (b"content-length", b"0")), False, b"404 Not Found"),
        # Nothing was sent yet, so the client doesn't have to wait for a body that won't come.
        (start(404, (b"content-length", b"9")), False, b"500 Internal Server Error"),
        (start(404), True, b"500 Internal Server Error"),
    ],
)
@virtual
async def test_application_that_ends_after_the_head_of_a_response(head: Event, fails: bool, status: bytes) -> None:
    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(head)
        if fails:
            await send(head)

    server = Uvicorn(application)
    async with server.running():
        first, rest = await refused(await server.ask())
        assert first.startswith(b"HTTP/1.1 " + status)
        assert rest == (b"Internal Server Error" if status.startswith(b"500") else b"")
        await idle()
        assert over(server)


@virtual
async def test_application_that_ends_within_a_response() -> None:
    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(start(200))
        await send(body(b"half", True))

    server = Uvicorn(application)
    async with server.running():
        _, rest = await refused(await server.ask())
        assert rest == b"4\r\nhalf\r\n"  # without the last chunk, the client knows
        await idle()
        assert over(server)


@virtual
async def test_application_that_ends_after_a_reset_within_a_response() -> None:
    go_on = asyncio.Event()

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(start(200))
        await send(body(b"half", True))
        await go_on.wait()

    server = Uvicorn(application)
    async with server.running():
        peer = await server.ask()
        peer.link.reset()
        await idle()
        go_on.set()
        await idle()
        assert over(server)


@pytest.mark.parametrize("phase", ["asked", "open"])
@virtual
async def test_application_that_is_cancelled(phase: str, caplog: pytest.LogCaptureFixture) -> None:
    """uvicorn cancels applications that don't end at a shutdown."""

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        if phase == "open":
            await send(ACCEPT)
        await asyncio.Event().wait()

    server = Uvicorn(application)
    async with server.running():
        peer = await server.ask()
        (task,) = server.state.tasks
        task.cancel()
        await idle()
        assert task.cancelled()
        answer = await peer.read_until_eof()
        assert answer.startswith(b"HTTP/1.1 101 " if phase == "open" else b"HTTP/1.1 500 ")
        peer.close()
        await idle()
        assert over(server)
    assert not [record for record in caplog.records if record.levelno == logging.ERROR]


# ------------------------------------------------------------------------------------------------------- shutdown


@virtual
async def test_shutdown() -> None:
    app = App()
    server = Uvicorn(app)
    async with server.running():
        peer = await server.enter()
        server.shutdown()
        await idle()
        assert app.events == [{"type": "websocket.disconnect", "code": 1012}]
        with pytest.raises(Disconnected):
            await app.send(text("late"))
        await peer.send(wire.close(1012, mask=True))
        assert await peer.read_until_eof() == wire.close(1012)
        peer.close()
        await idle()
        assert over(server)


@virtual
async def test_second_shutdown_does_not_wait() -> None:
    server = Uvicorn(App())
    async with server.running():
        peer = await server.enter()
        server.shutdown()
        await idle()
        assert server.state.connections
        server.shutdown()
        await idle()
        assert over(server)
        (connection,) = server.made
        connection.shutdown()  # once more, when the connection is over
        peer.close()


@virtual
async def test_shutdown_before_the_answer() -> None:
    app = Script()
    server = Uvicorn(app)
    async with server.running():
        peer = await server.ask()
        server.shutdown()
        await idle()
        head, rest = await refused(peer)
        assert head.startswith(b"HTTP/1.1 503 ")
        assert rest == b"Server is shutting down.\n"
        assert app.last == LOST
        await idle()
        assert over(server)


@pytest.mark.parametrize("message", [ACCEPT, CLOSE, start(200)], ids=lambda message: message["type"])
@virtual
async def test_answer_after_the_shutdown(message: Event, caplog: pytest.LogCaptureFixture) -> None:
    """The application did nothing wrong: nothing is logged as its error."""
    go_on, raised = asyncio.Event(), list[Exception]()

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await go_on.wait()
        try:
            await send(message)
        except Exception as exc:
            raised.append(exc)
            raise

    server = Uvicorn(application)
    async with server.running():
        peer = await server.ask()
        server.shutdown()
        go_on.set()
        assert (await refused(peer))[0].startswith(b"HTTP/1.1 503 ")
        await idle()
        assert [type(exc) for exc in raised] == [Disconnected]
        assert over(server)
    assert not [record for record in caplog.records if record.levelno == logging.ERROR]


@pytest.mark.parametrize("pieces", [[], [body(b"a", True)]])
@virtual
async def test_shutdown_lets_a_response_end(pieces: list[Event]) -> None:
    go_on = asyncio.Event()

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        await receive()
        await send(start(200))
        for piece in pieces:
            await send(piece)
        await go_on.wait()
        await send(body(b"b"))

    server = Uvicorn(application)
    async with server.running():
        peer = await server.ask()
        server.shutdown()
        await idle()
        go_on.set()
        _, rest = await refused(peer)
        assert b"b" in rest
        await idle()
        assert over(server)


# ------------------------------------------------------------------------------------------------------- the rest


@virtual
async def test_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(5, LOGGER)
    server = Uvicorn(echo)
    async with server.running():
        peer = await server.enter()
        host, number = server.made[0].remote_address[:2]
        peer.close()
        await idle()
    lines = [record.getMessage() for record in caplog.records if record.levelno == 5]
    assert lines == [f"{host}:{number} - WebSocket connection made", f"{host}:{number} - WebSocket connection lost"]


@virtual
async def test_eager_tasks_start_after_the_read() -> None:
    loop = running_loop()

    def factory(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(factory)
    server = Uvicorn(echo)
    async with server.running():
        peer = await server.enter()
        await peer.send(wire.text("hello", mask=True))
        assert await peer.read_exactly(7) == wire.text("hello")
        peer.close()
        await idle()
    loop.set_task_factory(None)


@pytest.mark.parametrize("fresh", [False, True])
@virtual
async def test_context_of_applications(fresh: bool) -> None:
    variable = contextvars.ContextVar("variable", default="nothing")
    seen: list[str] = []

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        seen.append(variable.get())

    server = Uvicorn(application, reset_contextvars=fresh)
    variable.set("of the lifespan")
    async with server.running():
        await refused(await server.ask())
        await idle()
        assert seen == ["nothing" if fresh else "of the lifespan"]


@virtual
async def test_data_after_the_end_of_the_stream() -> None:
    """On Windows, a read that was under way may end later."""
    server = Uvicorn(echo)
    async with server.running():
        peer = await server.enter()
        peer.close()
        await idle()
        (connection,) = server.made
        assert connection.state is State.CLOSED
        connection.data_received(wire.pong(mask=True))
        assert connection.statistics.bytes_received == len(request())


@virtual
async def test_settings_are_checked() -> None:
    for wrong in ({"ws_max_size": -1}, {"ws_max_queue": "x"}, {"ws_ping_interval": -1}):
        config = Uvicorn(echo, **wrong).config
        with pytest.raises((TypeError, ValueError)):
            UvicornProtocol(config=config, server_state=cast(Any, None), app_state={})
