"""What connections on trio have that those on asyncio don't: events of pings, their task, the line of writers."""

from __future__ import annotations

import inspect
import logging
import runpy
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import websockets.trio
from _kit import wire
from _kit.on_trio import on_network
from _kit.trio_ends import CancelAtStep, every_kind, open_pair, socket_pair, stream_pair
from _kit.trio_network import TrioNetwork
from websockets.client import ClientProtocol
from websockets.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidState,
)
from websockets.protocol import State
from websockets.testing.trio import connected_pair
from websockets.trio._broadcast import broadcast
from websockets.trio.connection import Connection
from websockets.uri import parse_uri

BIG = bytes(10**6)


def sockets(network: TrioNetwork) -> tuple[trio.SocketStream, trio.SocketStream]:
    return socket_pair(network)[:2]


# -------------------------------------------------------------------------------------------------------------- modules


def test_without_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio", None)
    with pytest.raises(ImportError, match=r'^websockets.trio needs trio: pip install "websockets\[trio\]"$'):
        runpy.run_path(websockets.trio.__file__)


def test_modules_are_attributes() -> None:
    for name in ("client", "connection", "router", "server"):
        module: Any = websockets.trio
        assert module.__getattr__(name) is getattr(module, name)
    with pytest.raises(AttributeError, match="^module 'websockets.trio' has no attribute 'nothing'$"):
        _ = websockets.trio.nothing  # type: ignore[attr-defined]


def test_signatures() -> None:
    assert issubclass(Connection, trio.abc.AsyncResource)
    assert list(inspect.signature(Connection).parameters)[:3] == ["nursery", "stream", "protocol"]
    assert not hasattr(Connection, "close")
    parameters = inspect.signature(broadcast).parameters
    assert list(parameters)[:4] == ["connections", "message", "raise_exceptions", "text"]


# ------------------------------------------------------------------------------------------------------ pings, the task


@on_network
async def test_pings(network: TrioNetwork) -> None:
    async with open_pair(sockets(network)) as (client, server):
        answered = await client.ping()
        await answered.wait()
        assert client.latency > 0
        server._ws_pause_reading(True)
        never, at_the_end = await client.ping(), await client.ping(ack_on_close=True)
        client.abort()
        assert (never.is_set(), at_the_end.is_set()) == (False, True)


@every_kind
@on_network
async def test_one_task(network: TrioNetwork, kind: str) -> None:
    client_stream, server_stream, _ = await stream_pair(network, kind)
    async with open_pair((client_stream, server_stream), ping_interval=20) as (client, server):
        await client.send("hello")
        assert await server.recv() == "hello"
        await trio.sleep(1007)
        assert client.state is State.OPEN
        # That of the client, and that of the server.
        assert len(client.nursery.child_tasks) == 2
        assert {task.name for task in client.nursery.child_tasks} == {"websockets client", "websockets server"}


@on_network
async def test_timeouts_may_change(network: TrioNetwork) -> None:
    async with open_pair(sockets(network), ping_interval=None) as (client, _):
        await trio.sleep(1000)
        client.ping_interval = 5
        start = trio.current_time()
        await trio.sleep(5)
        await trio.testing.wait_all_tasks_blocked()
        assert client.latency > 0
        assert trio.current_time() == start + 5


@on_network
async def test_nursery_is_cancelled(network: TrioNetwork) -> None:
    """The connection's task tells the peer, and ends."""
    async with open_pair(sockets(network)) as (_, server):
        [client_stream, server_stream, _link] = socket_pair(network)
        async with trio.open_nursery() as nursery:
            client = Connection(nursery, client_stream, ClientProtocol(parse_uri("ws://x/"), state=State.OPEN))
            client._ws_start()
            await client.send("x" * 10)
            nursery.cancel_scope.cancel()
        assert client.state is State.CLOSED
        assert await server_stream.receive_some(100)
        with pytest.raises(ConnectionClosedError, match="^sent 1001"):
            await client.recv()
        await server.aclose()


@pytest.mark.parametrize("blocked", [False, True])
@on_network
async def test_nursery_is_cancelled_with_a_block_in_it(network: TrioNetwork, blocked: bool) -> None:
    """Whichever task learns of it first: the Close is sent if that takes no wait."""
    for _ in range(10):
        client_stream, server_stream, link = socket_pair(network)
        async with trio.open_nursery() as nursery:
            client = Connection(nursery, client_stream, ClientProtocol(parse_uri("ws://x/"), state=State.OPEN))
            client._ws_start()

            async def use(client: Connection = client) -> None:
                async with client:
                    if blocked:
                        await client.send(BIG)
                    await trio.sleep_forever()

            if blocked:
                link.hold()
            nursery.start_soon(use)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert client.state is State.CLOSED
        link.release()
        received = b""
        while data := await server_stream.receive_some():
            received += data
        if blocked:
            assert 0 < len(received) < len(BIG)
        else:
            rows, rest = wire.parse(received)
            assert ([row.payload for row in rows], rest) == ([b"\x03\xe9"], b"")


@on_network
async def test_two_tasks_that_are_cancelled_close(network: TrioNetwork) -> None:
    """The second one waits until the first one has told the peer."""
    async with open_pair(sockets(network)) as (client, server):
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose, 4000)
            nursery.start_soon(client.aclose, 4000)
            nursery.cancel_scope.cancel()
        assert client.state is State.CLOSED
        await trio.testing.wait_all_tasks_blocked()
        assert server.close_code == 4000


@on_network
async def test_never_started(network: TrioNetwork) -> None:
    client_stream, _ = sockets(network)
    async with trio.open_nursery() as nursery:
        protocol = ClientProtocol(parse_uri("ws://localhost/"))
        client = Connection(nursery, client_stream, protocol)
        with pytest.raises(InvalidState, match="^connection is connecting$"):
            await client.send("too early")
        client.abort()
        client.abort()
        await client.wait_closed()
        assert client.local_address == ("127.0.0.1", 50000)
        assert client.remote_address == ("127.0.0.1", 80)


@on_network
async def test_aborted_before_its_task_ran(network: TrioNetwork) -> None:
    async with open_pair(sockets(network)) as (client, _):
        client.abort()
        assert client.state is State.CLOSED
        await client.wait_closed()
        await client.aclose()


@on_network
async def test_fault_in_a_method_that_was_overridden(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    async with open_pair(sockets(network)) as (client, server):

        def fault() -> None:
            del client._ws_process_events
            raise ZeroDivisionError

        await trio.testing.wait_all_tasks_blocked()
        client._ws_process_events = fault  # type: ignore[method-assign]
        await server.ping()
        with pytest.raises(ConnectionClosedError) as caught:
            await client.recv()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert [record.getMessage() for record in caplog.records] == ["unexpected internal error"]


@on_network
async def test_log(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client_stream, server_stream, link = socket_pair(network)
    async with open_pair((client_stream, server_stream)) as (client, _):
        await trio.testing.wait_all_tasks_blocked()
        link.reset()
        with pytest.raises(ConnectionClosedError):
            await client.recv()
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count("! error while receiving data") == 2
    assert lines.count("x closing TCP connection") == 2


# ------------------------------------------------------------------------------------------------------------ receiving


@on_network
async def test_second_receiver(network: TrioNetwork) -> None:
    async with open_pair(sockets(network)) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.recv)
        await trio.testing.wait_all_tasks_blocked()
        text = "^cannot call recv while another coroutine is already running recv or recv_streaming$"
        with pytest.raises(ConcurrencyError, match=text):
            await client.recv()
        with pytest.raises(ConcurrencyError, match="^cannot call recv_streaming while"):
            await anext(client.recv_streaming())
        await server.send("for the first one")


@on_network
async def test_burst(network: TrioNetwork) -> None:
    """Other tasks have their turn, and none of them may receive in it."""
    async with open_pair(sockets(network), max_queue=None) as (client, server):
        for number in range(500):
            await server.send(str(number))
        await trio.testing.wait_all_tasks_blocked()
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                if client._ws_receiver is not None:
                    with pytest.raises(ConcurrencyError):
                        await client.recv()
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            assert [await client.recv() for _ in range(500)] == [str(number) for number in range(500)]
            nursery.cancel_scope.cancel()
        assert 5 < turns < 20


@on_network
async def test_iterators_may_be_closed(network: TrioNetwork) -> None:
    async with open_pair(sockets(network)) as (client, server):
        await server.send(["a", "b"])
        await server.send("next")
        messages: Any = aiter(client)
        await messages.aclose()
        pieces: Any = client.recv_streaming()
        assert aiter(pieces) is pieces
        assert await anext(pieces) == "a"
        await pieces.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(pieces)
        assert await anext(messages) == "next"
        await server.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(messages)


@on_network
async def test_left_by_a_task_that_ended(network: TrioNetwork) -> None:
    async with open_pair(sockets(network)) as (client, server):
        await server.send(["a", "b"])
        await server.send("next")
        pieces = client.recv_streaming()

        async def read() -> None:
            assert await anext(pieces) == "a"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
        assert await client.recv() == "next"
        with pytest.raises(ConcurrencyError, match="^cannot go on with recv_streaming after another call"):
            await anext(pieces)


@pytest.mark.parametrize("kept", [True, False])
@on_network
async def test_left_where_references_are_not_counted(
    network: TrioNetwork, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody refers to is collected when somebody else wants to receive."""
    monkeypatch.setattr("websockets.trio.connection.COUNTS_REFERENCES", False)
    async with open_pair(sockets(network)) as (client, server), trio.open_nursery() as nursery:
        await server.send(["a", "b"])
        await server.send("next")
        readers: list[Any] = []

        async def read() -> None:
            pieces = client.recv_streaming()
            assert await anext(pieces) == "a"
            # A cycle, as reference counts would do.
            cycle: list[Any] = [pieces]
            cycle.append(cycle)
            if kept:
                readers.append(pieces)
            del pieces, cycle
            await trio.sleep_forever()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        if kept:
            with pytest.raises(ConcurrencyError):
                await client.recv()
        else:
            assert await client.recv() == "next"
        nursery.cancel_scope.cancel()


# -------------------------------------------------------------------------------------------------------------- sending


@every_kind
@on_network
async def test_line_of_writers(network: TrioNetwork, kind: str) -> None:
    """Many send at once; whoever is the writer may leave, or be cancelled."""
    client_stream, server_stream, _ = await stream_pair(network, kind)
    async with open_pair((client_stream, server_stream), max_queue=(1, 0)) as (client, server):
        scopes = [trio.CancelScope() for _ in range(10)]

        async def send(number: int) -> None:
            with scopes[number]:
                await client.send(bytes([number]) * 100_000)

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(send, number)
            await trio.testing.wait_all_tasks_blocked()
            if kind != "other":
                for scope in scopes[::3]:
                    scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
            received = [await server.recv() for _ in range(10)]
        assert sorted(message[0] for message in received) == list(range(10))
        assert {len(message) for message in received} == {100_000}
        assert client.buffered_amount == 0
        assert client.statistics.bytes_sent > 10**6


@on_network
async def test_lost_while_many_send(network: TrioNetwork) -> None:
    client_stream, server_stream, link = socket_pair(network)
    async with open_pair((client_stream, server_stream), max_queue=(1, 0)) as (client, _):
        failed = 0

        async def send() -> None:
            nonlocal failed
            with pytest.raises(ConnectionClosedError):  # noqa: PT012
                for _ in range(10):
                    await client.send(BIG)
            failed += 1

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            link.reset()
        assert failed == 5


@on_network
async def test_generators_are_closed(network: TrioNetwork) -> None:
    """Nobody else could close one that was made for a call; trio would warn of it."""
    async with open_pair(sockets(network)) as (client, server):
        closed = []

        async def pieces() -> AsyncIterator[Any]:
            try:
                yield "a"
                yield b"of another type"
                raise AssertionError("never asked for")
            finally:
                closed.append(True)

        with pytest.raises(TypeError):
            await client.send(pieces())
        assert closed == [True]
        with pytest.raises(ConnectionClosed):
            await server.recv()

        async def none() -> AsyncIterator[Any]:
            for _ in ():
                yield "never"

        async with open_pair(sockets(network)) as (another, _):
            await another.send(none())
            await another.send([])
            assert another.statistics.messages_sent == 0


@on_network
async def test_pong_while_send_is_blocked(network: TrioNetwork) -> None:
    """One pong for all pings, when the peer reads again; it comes behind what was sent before."""
    client_stream, server_stream, link = socket_pair(network)
    async with open_pair((client_stream, server_stream), max_queue=None) as (client, server):
        link.to_server.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, BIG)
            await trio.testing.wait_all_tasks_blocked()
            answered = [await server.ping() for _ in range(50)]
            await trio.testing.wait_all_tasks_blocked()
            assert client.buffered_amount < len(BIG) + 20
            link.to_server.release()
            assert await server.recv() == BIG
            await answered[-1].wait()
        assert server.statistics.pings_sent == 50
        assert all(event.is_set() for event in answered)


@on_network
async def test_broadcast_without_waiting(network: TrioNetwork) -> None:
    pairs = [socket_pair(network) for _ in range(3)]
    async with (
        open_pair(pairs[0][:2]) as (slow, slow_reader),
        open_pair(pairs[1][:2]) as (quick, reader),
        open_pair(pairs[2][:2]) as (closed, _),
    ):
        pairs[0][2].to_server.hold()
        await closed.aclose()
        start = trio.current_time()
        await broadcast([slow, quick, closed], BIG)
        assert trio.current_time() == start
        assert await reader.recv() == BIG
        assert slow.buffered_amount > 0
        await broadcast([slow, quick], "skipped by one", on_slow="skip")
        assert await reader.recv() == "skipped by one"
        assert slow.statistics.skipped == 1
        await broadcast([slow], "never", on_slow="close")
        pairs[0][2].to_server.release()
        assert await slow_reader.recv() == BIG
        with pytest.raises(ConnectionClosedError, match="1008 .policy violation. too slow"):
            await slow_reader.recv()


@on_network
async def test_broadcast_that_is_cancelled(network: TrioNetwork) -> None:
    """All get the message, or none."""
    for step in range(1, 6):
        pairs = [socket_pair(network) for _ in range(2)]
        async with open_pair(pairs[0][:2]) as (one, first), open_pair(pairs[1][:2]) as (two, second):
            cancel = CancelAtStep(step)
            with cancel():
                await broadcast([one, two], "hello")
            await trio.testing.wait_all_tasks_blocked()
            assert len({first.statistics.messages_received, second.statistics.messages_received}) == 1


@on_network
async def test_closing_again(network: TrioNetwork) -> None:
    async with open_pair(sockets(network)) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose, 1001)
            nursery.start_soon(client.aclose, 1001)
        await client.aclose(4000)
        assert client.close_code == 1001
        assert client.buffered_amount == 0
        with pytest.raises(ConnectionClosedOK):
            await server.recv()
        with pytest.raises(ConnectionClosedOK):
            await client.send(["never"])
        with pytest.raises(TypeError, match="^timeout must be"):
            await client.aclose(timeout="5")  # type: ignore[arg-type]


@on_network
async def test_limit_of_closing(network: TrioNetwork) -> None:
    async with open_pair(sockets(network)) as (client, server):
        server._ws_pause_reading(True)
        server._ws_session.inbox.discarding = True
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        await client.aclose(timeout=2)
        assert trio.current_time() == start + 2
        assert client.close_code == 1006
        assert isinstance(client.close_exc.__cause__, TimeoutError)


# ------------------------------------------------------------------------------------------------------------ elsewhere

USES: dict[str, Callable[[Connection], Awaitable[object]]] = {
    "send": lambda connection: connection.send("text"),
    "send fragments": lambda connection: connection.send(["one", "two"]),
    "recv": lambda connection: connection.recv(),
    "recv streaming": lambda connection: anext(connection.recv_streaming()),
    "iterate": lambda connection: anext(aiter(connection)),
    "ping": lambda connection: connection.ping(),
    "pong": lambda connection: connection.pong(),
    "aclose": lambda connection: connection.aclose(),
}


@pytest.mark.parametrize("use", USES)
def test_use_in_another_run_is_refused(use: str) -> None:
    async def there(connection: Connection) -> None:
        await USES[use](connection)

    async def here() -> None:
        async with connected_pair() as (client, server):
            with pytest.raises(RuntimeError, match="^a connection belongs to the run of trio in which it was opened; "):
                await trio.to_thread.run_sync(trio.run, there, client)
            with pytest.raises(RuntimeError):
                await trio.to_thread.run_sync(lambda: there(client).send(None))
            await client.send("here")
            assert await server.recv() == "here"

    trio.run(here)
