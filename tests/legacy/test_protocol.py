"""What both ends have in the legacy API: members, receiving, frames by hand, giving up; and what is gone."""

from __future__ import annotations

import asyncio
import logging
import re
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from _kit import advance, idle, transport_pair, virtual, wire
from _kit.asking import port_of, reach, uri_of
from _kit.peer import RawPeer
from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidState,
    ProtocolError,
)
from websockets.frames import Close, Opcode
from websockets.legacy.client import WebSocketClientProtocol, connect
from websockets.legacy.protocol import GONE, UNCALLED, WebSocketCommonProtocol
from websockets.legacy.server import WebSocketServerProtocol, serve
from websockets.protocol import State
from websockets.typing import Subprotocol


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[tuple[WebSocketServerProtocol, RawPeer]]:
    """A connection of a server, and its peer, which is broken in the end."""
    future: asyncio.Future[WebSocketServerProtocol] = asyncio.get_running_loop().create_future()

    async def handler(websocket: WebSocketServerProtocol) -> None:
        future.set_result(websocket)
        await websocket.wait_closed()

    async with serve(handler, "localhost", 0, **{"compression": None, **options}) as server:
        peer = await reach(server)
        await peer.send(wire.request())
        await peer.read_until()
        yield await future, peer
        peer.reset()


# -------------------------------------------------------------------------------------------------------------- members


def closes(connection: WebSocketCommonProtocol) -> tuple[Close | None, Close | None, bool | None]:
    return connection.close_rcvd, connection.close_sent, connection.close_rcvd_then_sent


@virtual
async def test_closes() -> None:
    async with opened() as (websocket, peer):
        assert closes(websocket) == (None, None, None)
        await peer.send(wire.close(1001, "bye", mask=True))
        await websocket.wait_closed()
        assert closes(websocket) == (Close(1001, "bye"), Close(1001, "bye"), True)
    async with opened() as (websocket, peer):
        closing = asyncio.create_task(websocket.close(3000, "go"))
        await idle()
        assert closes(websocket) == (None, Close(3000, "go"), None)
        await peer.send(wire.close(1000, mask=True))
        await closing
        assert closes(websocket) == (Close(1000, ""), Close(3000, "go"), False)
    async with opened() as (websocket, peer):
        peer.reset()
        await websocket.wait_closed()
        assert closes(websocket) == (None, None, None)


@virtual
async def test_closes_of_a_client() -> None:
    async def say_goodbye(websocket: WebSocketServerProtocol) -> None:
        await websocket.close(1001, "bye")

    async with serve(say_goodbye, "localhost", 0) as server, connect(uri_of(server)) as client:
        await client.wait_closed()
        assert closes(client) == (Close(1001, "bye"), Close(1001, "bye"), True)


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
@virtual
async def test_debug(level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(level, "websockets.server")
    async with opened() as (websocket, _):
        assert websocket.debug is (level == logging.DEBUG)


@virtual
async def test_debug_that_a_class_sets() -> None:
    class Talkative(WebSocketServerProtocol):
        def connection_open(self) -> None:
            self.debug = True

    async with opened(create_protocol=Talkative) as (websocket, _):
        assert websocket.debug is True


@virtual
async def test_members_of_a_connection() -> None:
    seen: list[WebSocketServerProtocol] = []

    async def handler(websocket: WebSocketServerProtocol) -> None:
        seen.append(websocket)
        await websocket.wait_closed()

    async with serve(handler, "localhost", 0, read_limit=1, max_queue=2, max_size=3, ping_interval=4) as server:
        async with connect(uri_of(server), write_limit=5, ping_timeout=6) as client:
            (websocket,) = seen
            assert (websocket.read_limit, websocket.max_queue, websocket.max_size) == (1, 2, 3)
            assert (websocket.ping_interval, websocket.ping_timeout, websocket.close_timeout) == (4, 20, 10)
            assert (client.write_limit, client.ping_timeout, client.legacy_recv) == (5, 6, False)
            assert (websocket.is_client, websocket.side, client.is_client, client.side) == (
                False,
                "server",
                True,
                "client",
            )
            assert (websocket.close_code, websocket.close_reason, client.latency) == (None, None, 0)
            await (await client.ping())
        assert (client.close_code, client.close_reason) == (1000, "")


@virtual
async def test_members_that_a_program_sets() -> None:
    async with opened(ping_interval=None) as (websocket, peer):
        websocket.ping_interval, websocket.ping_timeout, websocket.close_timeout = 5, 7, 3
        assert (websocket.ping_interval, websocket.ping_timeout, websocket.close_timeout) == (5, 7, 3)
        start = asyncio.get_running_loop().time()
        waiter = websocket.connection_lost_waiter
        assert (await peer.read_frame()).opcode == wire.PING
        assert not waiter.done()
        await asyncio.shield(waiter)
        # Close isn't waited for, as nothing came back.
        assert asyncio.get_running_loop().time() - start == pytest.approx(12, abs=0.1)
    async with opened(ping_interval=None) as (websocket, peer):
        websocket.close_timeout = 3
        start = asyncio.get_running_loop().time()
        await websocket.close()
        assert asyncio.get_running_loop().time() - start == pytest.approx(3, abs=0.1)
        assert websocket.connection_lost_waiter.done()
    with pytest.raises(ValueError, match=r"^close_timeout must be .*, not -1$"):
        websocket.close_timeout = -1


@virtual
async def test_names_that_a_class_uses_for_itself() -> None:
    class Own(WebSocketServerProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.id, self.request, self.response = 1, 2, 3  # type: ignore[assignment]
            super().__init__(*args, **kwargs)

        def connection_open(self) -> None:
            self.subprotocol, self.extensions = Subprotocol("mine"), []

    async def handler(websocket: Any, path: str) -> None:
        assert (websocket.id, websocket.request, websocket.response) == (1, 2, 3)
        await websocket.send(f"{path} {websocket.subprotocol} {websocket.extensions}")

    with pytest.warns(DeprecationWarning, match="remove second argument"):
        serving = serve(handler, "localhost", 0, create_protocol=Own)
    async with serving as server, connect(uri_of(server, "/a"), compression=None) as client:
        assert await client.recv() == "/a mine []"


@virtual
async def test_max_size_that_a_program_sets() -> None:
    async def handler(websocket: WebSocketServerProtocol) -> None:
        await websocket.recv()
        await websocket.send("x" * 1000)
        await websocket.wait_closed()

    async with serve(handler, "localhost", 0) as server:
        for size in (None, 1000, 999):
            client = await connect(uri_of(server), max_size=1)
            client.max_size = size
            assert client.max_size == size
            await client.send("now")
            if size == 999:
                with pytest.raises(ConnectionClosedError, match="1009"):
                    await client.recv()
            else:
                assert len(await client.recv()) == 1000
            await client.close()


@virtual
async def test_addresses_of_old() -> None:
    seen: list[WebSocketServerProtocol] = []

    async def handler(websocket: WebSocketServerProtocol) -> None:
        seen.append(websocket)
        await websocket.wait_closed()

    async with serve(handler, "localhost", 0) as server:
        async with connect(uri_of(server)) as client:
            (websocket,) = seen
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert (client.host, client.port, client.secure) == ("localhost", port_of(server), False)
                assert (websocket.host, websocket.port, websocket.secure) == ("localhost", 0, False)
    assert {warning.filename for warning in caught} == {__file__}
    assert [str(warning.message) for warning in caught] == [
        "use remote_address[0] instead of host",
        "use remote_address[1] instead of port",
        "don't use secure",
        "use local_address[0] instead of host",
        "use local_address[1] instead of port",
        "don't use secure",
    ]


@virtual
async def test_before_there_is_a_connection() -> None:
    client = WebSocketClientProtocol()
    assert (client.state, client.open, client.closed) == (State.CONNECTING, False, False)
    assert client.local_address is client.remote_address is None
    assert not hasattr(client, "path")
    client.fail_connection()
    for call in (client.ensure_open, client.ping, client.pong):
        with pytest.raises(InvalidState):
            await call()


@virtual
async def test_arguments_that_warn() -> None:
    loop = asyncio.get_running_loop()
    with pytest.warns(DeprecationWarning, match=r"^remove loop argument$"):
        WebSocketClientProtocol(loop=loop)
    with pytest.warns(DeprecationWarning, match=r"^rename timeout to close_timeout$"):
        assert WebSocketClientProtocol(timeout=5).close_timeout == 5
    with pytest.warns(DeprecationWarning, match=r"^rename timeout to close_timeout$"):
        assert WebSocketClientProtocol(timeout=5, close_timeout=6).close_timeout == 6


@virtual
async def test_opening_handshake_done_elsewhere() -> None:
    class Client(WebSocketCommonProtocol):
        is_client = True

    one, other = WebSocketCommonProtocol(), Client()
    transport_pair(one, other)
    await idle()
    assert one.open
    assert other.open
    await one.send("hello")
    assert await other.recv() == "hello"
    await other.close()
    await one.wait_closed()
    assert one.close_code == 1000


# ------------------------------------------------------------------------------------------------------------ receiving


@virtual
async def test_receiving() -> None:
    async with opened() as (websocket, peer):
        await peer.send(wire.text("héllo", mask=True) + wire.binary(b"\x00", mask=True))
        assert [await websocket.recv(), await websocket.recv()] == ["héllo", b"\x00"]
        await peer.send(wire.text("a", mask=True) + wire.binary(b"b", mask=True))
        assert await websocket.recv(decode=False) == b"a"
        assert await websocket.recv(decode=True) == "b"


@virtual
async def test_receiving_twice_at_once() -> None:
    async with opened() as (websocket, peer):
        receiving = asyncio.create_task(websocket.recv())
        await idle()
        text = "^cannot call recv while another coroutine is already waiting for the next message$"
        with pytest.raises(RuntimeError, match=text) as caught:
            await websocket.recv()
        assert isinstance(caught.value, ConcurrencyError)
        await peer.send(wire.text("one", mask=True))
        assert await receiving == "one"


@virtual
async def test_receiving_after_the_end() -> None:
    async with opened() as (websocket, peer):
        await peer.send(wire.text("last", mask=True) + wire.close(1000, mask=True))
        await peer.read_until_eof()
        peer.close()
        await websocket.wait_closed()
        assert await websocket.recv() == "last"
        with pytest.raises(ConnectionClosedOK):
            await websocket.recv()


@virtual
async def test_iterating() -> None:
    class Shouting(WebSocketServerProtocol):
        async def recv(self, decode: bool | None = None) -> Any:
            return (await super().recv(decode)).upper()

    for create_protocol, expected in ((WebSocketServerProtocol, ["a", "b"]), (Shouting, ["A", "B"])):
        async with opened(create_protocol=create_protocol) as (websocket, peer):
            await peer.send(wire.text("a", mask=True) + wire.text("b", mask=True) + wire.close(1001, mask=True))
            await peer.read_frame()
            peer.close()
            assert [message async for message in websocket] == expected
        async with opened(create_protocol=create_protocol) as (websocket, peer):
            await peer.send(wire.close(4000, mask=True))
            await peer.read_frame()
            peer.close()
            with pytest.raises(ConnectionClosedError):
                [message async for message in websocket]


@virtual
async def test_iterating_with_a_patched_recv() -> None:
    """The test client of Sanic puts a function of its own in the place of recv()."""
    async with opened() as (websocket, peer):
        recv = websocket.recv

        async def patched() -> Any:
            return [await recv()]

        websocket.recv = patched  # type: ignore[method-assign, assignment]
        await peer.send(wire.text("a", mask=True) + wire.close(1000, mask=True))
        await peer.read_frame()
        peer.close()
        messages: list[Any] = [message async for message in websocket]
        assert messages == [["a"]]


@virtual
async def test_seeing_bytes() -> None:
    seen = bytearray()

    class Spying(WebSocketServerProtocol):
        def data_received(self, data: Any) -> None:
            seen.extend(data)
            super().data_received(data)

    async with opened(create_protocol=Spying) as (websocket, peer):
        await peer.send(wire.text("hello", mask=True))
        assert await websocket.recv() == "hello"
        assert bytes(seen) == wire.request() + wire.text("hello", mask=True)


# -------------------------------------------------------------------------------------------------------------- sending


class Broken(Exception):
    pass


async def later(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


def fail_first() -> Iterator[str]:
    raise Broken
    yield ""


async def fail_first_later() -> AsyncIterator[str]:
    raise Broken
    yield ""


async def bad_first() -> AsyncIterator[Any]:
    yield 1


class FailingIterable:
    def __iter__(self) -> Iterator[str]:
        raise Broken


class FailingAsyncIterable:
    def __aiter__(self) -> AsyncIterator[str]:
        raise Broken


NOTHING_BEGUN: list[tuple[Callable[[], Any], type[Exception]]] = [
    (fail_first, Broken),
    (fail_first_later, Broken),
    (FailingIterable, Broken),
    (FailingAsyncIterable, Broken),
    (lambda: [1], TypeError),
    (lambda: [None, "a"], TypeError),
    (lambda: [["a"]], TypeError),
    (bad_first, TypeError),
    (dict, TypeError),
    (lambda: 5, TypeError),
]


@pytest.mark.parametrize(("make", "expected"), NOTHING_BEGUN)
@virtual
async def test_iterable_that_fails_at_once(make: Callable[[], Any], expected: type[Exception]) -> None:
    async with opened() as (websocket, peer):
        with pytest.raises(expected):
            await websocket.send(make())
        assert websocket.open
        await websocket.send("next")
        assert (await peer.read_frame()).payload == b"next"


@pytest.mark.parametrize("make", [list, tuple, lambda: iter(()), lambda: later()])
@virtual
async def test_iterable_without_items(make: Callable[[], Any]) -> None:
    async with opened() as (websocket, peer):
        await websocket.send(make())
        await websocket.send("next")
        assert (await peer.read_frame()).payload == b"next"


async def fail_second() -> AsyncIterator[str]:
    yield "a"
    raise Broken


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: ["a", 1], TypeError),
        (lambda: ["a", b"b"], TypeError),
        (lambda: later("a", 1), TypeError),
        (fail_second, Broken),
    ],
)
@virtual
async def test_iterable_that_fails_later(make: Callable[[], Any], expected: type[Exception]) -> None:
    async with opened() as (websocket, peer):
        with pytest.raises(expected):
            await websocket.send(make())
        assert websocket.close_sent == Close(1011, "error in fragmented message")
        row = await peer.read_frame()
        assert (row.payload, row.fin) == (b"a", False)


@pytest.mark.parametrize("make", [lambda: iter(["a", "b"]), lambda: later("a", "b")])
@virtual
async def test_iterable_that_succeeds(make: Callable[[], Any]) -> None:
    async with opened() as (websocket, peer):
        await websocket.send(make())
        rows = [await peer.read_frame() for _ in range(3)]
        assert [(row.opcode, row.payload, row.fin) for row in rows] == [
            (wire.TEXT, b"a", False),
            (wire.CONT, b"b", False),
            (wire.CONT, b"", True),
        ]


@virtual
async def test_message_before_a_first_item_that_comes_late() -> None:
    begin, proceed = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[str]:
        await begin.wait()
        yield "a"
        await proceed.wait()
        yield "b"

    async with opened() as (websocket, peer):
        slowly = asyncio.create_task(websocket.send(slow()))
        await idle()
        await websocket.send("before")
        begin.set()
        await idle()
        after = asyncio.create_task(websocket.send("after"))
        await idle()
        assert not after.done()
        proceed.set()
        await asyncio.gather(slowly, after)
        assert [(await peer.read_frame()).payload for _ in range(5)] == [b"before", b"a", b"b", b"", b"after"]


@virtual
async def test_cancelled_before_the_first_item() -> None:
    async def never() -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield "a"

    async with opened() as (websocket, peer):
        sending = asyncio.create_task(websocket.send(never()))
        await idle()
        sending.cancel()
        await asyncio.wait([sending])
        assert (sending.cancelled(), websocket.open) == (True, True)
        await websocket.send("next")
        assert (await peer.read_frame()).payload == b"next"


@virtual
async def test_closed_while_the_first_item_is_awaited() -> None:
    begin = asyncio.Event()

    async def slow() -> AsyncIterator[str]:
        await begin.wait()
        yield "a"

    async with opened() as (websocket, peer):
        sending = asyncio.create_task(websocket.send(slow()))
        await idle()
        await peer.send(wire.close(1000, mask=True))
        await websocket.wait_closed()
        begin.set()
        with pytest.raises(ConnectionClosedOK):
            await sending


@pytest.mark.parametrize(
    "make", [list, dict, lambda: 5, lambda: ["a"], lambda: later("a"), *(make for make, _ in NOTHING_BEGUN)]
)
@virtual
async def test_iterable_for_a_closed_connection(make: Callable[[], Any]) -> None:
    async with opened() as (websocket, peer):
        await peer.send(wire.close(1000, mask=True))
        await websocket.wait_closed()
        with pytest.raises(ConnectionClosedOK):
            await websocket.send(make())


# ------------------------------------------------------------------------------------------------------ frames by hand


@virtual
async def test_frames_by_hand() -> None:
    async with opened() as (websocket, peer):
        websocket.write_frame_sync(False, Opcode.TEXT, b"a")
        websocket.write_frame_sync(True, Opcode.CONT, b"b")
        websocket.write_frame_sync(True, Opcode.BINARY, b"c")
        websocket.write_frame_sync(True, Opcode.PING, b"d")
        await websocket.write_frame(True, Opcode.PONG, b"e")
        await websocket.drain()
        await websocket.ensure_open()
        rows = [await peer.read_frame() for _ in range(5)]
        assert [(row.fin, row.opcode, row.payload) for row in rows] == [
            *((False, wire.TEXT, b"a"), (True, wire.CONT, b"b"), (True, wire.BINARY, b"c")),
            *((True, wire.PING, b"d"), (True, wire.PONG, b"e")),
        ]
        with pytest.raises(ProtocolError):
            websocket.write_frame_sync(True, Opcode.CONT, b"")
        with pytest.raises(ValueError, match="3 is not a valid Opcode"):
            websocket.write_frame_sync(True, 3, b"")


@pytest.mark.parametrize("payload", [b"", Close(1001, "bye").serialize()])
@virtual
async def test_close_by_hand(payload: bytes) -> None:
    async with opened() as (websocket, peer):
        websocket.write_frame_sync(True, Opcode.CLOSE, payload)
        assert (await peer.read_frame()).payload == payload
        with pytest.raises(InvalidState, match=r"^Cannot write to a WebSocket in the CLOSING state$"):
            await websocket.write_frame(True, Opcode.TEXT, b"late")
        await websocket.write_close_frame(Close(1000, ""))
        peer.close()
        assert await websocket.wait_for_connection_lost()
        with pytest.raises(ConnectionClosed):
            await websocket.ensure_open()


@virtual
async def test_write_close_frame() -> None:
    async with opened() as (websocket, peer):
        await websocket.write_close_frame(Close(1001, "going"))
        assert (await peer.read_frame()).payload == Close(1001, "going").serialize()
    async with opened() as (websocket, peer):
        await websocket.write_close_frame(Close(1001, "going"), b"\x03\xe8")
        assert (await peer.read_frame()).payload == b"\x03\xe8"


@virtual
async def test_draining() -> None:
    async with opened(write_limit=2**10) as (websocket, peer):
        peer.stop_reading()
        websocket.write_frame_sync(True, Opcode.BINARY, bytes(2**22))
        draining = asyncio.create_task(websocket.drain())
        await idle()
        assert not draining.done()
        peer.resume_reading()
        await draining
        assert len((await peer.read_frame()).payload) == 2**22


# -------------------------------------------------------------------------------------------------------------- the end


@virtual
async def test_giving_up_with_a_code() -> None:
    async with opened() as (websocket, peer):
        websocket.fail_connection(1012, "restart")
        assert (await peer.read_frame()).payload == Close(1012, "restart").serialize()
        websocket.transport.close()
        await websocket.wait_closed()
        assert websocket.close_code == 1006
        assert str(websocket.connection_closed_exc()) == (
            "sent 1012 (service restart) restart; no close frame received"
        )
        websocket.fail_connection()


@virtual
async def test_giving_up_without_a_code() -> None:
    async with opened(close_timeout=3) as (websocket, peer):
        websocket.fail_connection()
        assert await peer.read_until_eof() == b""
        await advance(2)
        assert not websocket.closed
        await advance(2)
        assert websocket.closed


@virtual
async def test_giving_up_while_the_queue_is_full() -> None:
    async with opened(max_queue=1) as (websocket, peer):
        await peer.send(b"".join(wire.text("x", mask=True) for _ in range(20)))
        await idle()
        websocket.fail_connection(1011)
        await peer.send(wire.close(1011, mask=True))
        await peer.read_until_eof()
        peer.close()
        await websocket.wait_closed()


@virtual
async def test_waiting_for_the_end() -> None:
    async with opened(close_timeout=3) as (websocket, _):
        waiting = asyncio.create_task(websocket.wait_for_connection_lost())
        await advance(4)
        assert waiting.result() is False


# ------------------------------------------------------------------------------------------------------- what is gone


@pytest.mark.parametrize("name", GONE)
@virtual
async def test_gone(name: str) -> None:
    client = WebSocketClientProtocol()
    with pytest.raises(
        AttributeError, match=f"^WebSocketClientProtocol no longer has {name}: {re.escape(GONE[name])}$"
    ):
        getattr(client, name)
    assert not hasattr(client, name)


@virtual
async def test_what_was_never_there() -> None:
    with pytest.raises(AttributeError, match=r"^'WebSocketClientProtocol' object has no attribute 'nothing'$"):
        _ = WebSocketClientProtocol().nothing


@pytest.mark.parametrize("name", [*GONE, *UNCALLED])
@pytest.mark.parametrize("base", [WebSocketServerProtocol, WebSocketClientProtocol, WebSocketCommonProtocol])
def test_overriding_what_nobody_calls(base: type, name: str) -> None:
    with pytest.raises(TypeError, match=rf"^Mine\.{name} would never be used: "):
        type("Mine", (base,), {name: lambda self: None})
    mixin = type("Mixin", (), {name: lambda self: None})
    with pytest.raises(TypeError, match=rf"^Mine\.{name} would never be used: "):
        type("Mine", (mixin, base), {})


def test_deriving_from_what_is_fine() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Mine(WebSocketServerProtocol):
            def connection_open(self) -> None:
                super().connection_open()

        class More(Mine):
            pass
