"""Faults that front-ends for trio had, one test for each; those of reconnection are in test_reconnect."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

import websockets.trio
from _kit.on_trio import on_network, serving, uri_of
from _kit.trio_ends import every_kind, open_pair, socket_pair, stream_pair
from _kit.trio_network import TrioNetwork
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidMessage
from websockets.protocol import State

BIG = bytes(10**6)


@pytest.mark.parametrize("kind", ["socket", "TLS", "TLS in TLS"])
@on_network
async def test_cancelled_send_tears_no_frame(network: TrioNetwork, kind: str) -> None:
    """The rest of the frame is written by another task, and the next message comes behind it."""
    client_stream, server_stream, _ = await stream_pair(network, kind)
    async with open_pair((client_stream, server_stream), max_queue=(1, 0)) as (client, server):
        for _ in range(2):
            await client.send("fills the queue")
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1) as scope:
            await client.send(BIG)
        assert scope.cancelled_caught
        assert 0 < client.buffered_amount < len(BIG)
        with trio.move_on_after(1) as scope:
            await client.send("behind it")
        assert scope.cancelled_caught
        assert client.state is State.OPEN
        assert [await server.recv() for _ in range(2)] == ["fills the queue"] * 2
        assert await server.recv() == BIG
        assert await server.recv() == "behind it"
        await trio.testing.wait_all_tasks_blocked()
        assert client.buffered_amount == 0
        await client.send("next")
        assert await server.recv() == "next"


@pytest.mark.parametrize("way", ["cancelled", "lost"])
@on_network
async def test_small_frame_that_finds_no_room(network: TrioNetwork, way: str) -> None:
    """It went past the write buffer; what the socket doesn't take is the beginning of it."""
    client_stream, server_stream, link = socket_pair(network)
    async with open_pair((client_stream, server_stream), max_queue=None) as (client, server):
        link.hold()
        # With its header of 8 bytes, such a frame fills the buffers of the network to the last byte.
        count = 0
        if way == "cancelled":
            with trio.move_on_after(1):
                while True:
                    count += 1
                    await client.send(bytes(1016))
            assert client.state is State.OPEN
            link.release()
            await client.send("next")
            assert [len(await server.recv()) for _ in range(count)] == [1016] * count
            assert await server.recv() == "next"
        else:
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    with pytest.raises(ConnectionClosedError):  # noqa: PT012
                        while True:
                            await client.send(bytes(1016))

                nursery.start_soon(send)
                await trio.testing.wait_all_tasks_blocked()
                link.reset()


@on_network
async def test_cancelled_send_on_a_stream_that_tells_nothing(network: TrioNetwork) -> None:
    client_stream, server_stream, _ = await stream_pair(network, "other")
    async with open_pair((client_stream, server_stream), max_queue=(1, 0)) as (client, server):
        for _ in range(2):
            await client.send("fills the queue")
        with trio.move_on_after(1):
            await client.send(BIG)
        assert client.state is State.CLOSED
        assert client.close_code == 1006
        with pytest.raises(ConnectionClosedError) as caught:
            await client.send("next")
        assert str(caught.value.__cause__) == "sending was cancelled in the middle of a frame"
        # The other end got no half of a frame, with another one behind it.
        assert [message async for message in _until_lost(server)] in (
            ["fills the queue"] * 2,
            ["fills the queue", "fills the queue", BIG],
        )


async def _until_lost(connection: websockets.trio.connection.Connection) -> AsyncIterator[object]:
    try:
        while True:
            yield await connection.recv()
    except ConnectionClosedError:
        return


@every_kind
@on_network
async def test_keepalive_while_send_is_blocked(network: TrioNetwork, kind: str) -> None:
    client_stream, server_stream, _ = await stream_pair(network, kind)
    async with open_pair(
        (client_stream, server_stream),
        ping_interval=0.2,
        ping_timeout=0.2,
        close_timeout=0.5,
        of_server={"ping_interval": None, "max_queue": 1},
    ) as (client, _):
        start = trio.current_time()
        with pytest.raises(ConnectionClosedError, match="keepalive ping timeout"):  # noqa: PT012
            while True:
                await client.send(BIG)
        assert trio.current_time() - start == pytest.approx(0.4, abs=0.1)


@every_kind
@on_network
async def test_closing_with_a_full_queue(network: TrioNetwork, kind: str) -> None:
    """What comes is discarded: it takes a round trip."""
    client_stream, server_stream, _ = await stream_pair(network, kind)
    async with open_pair((client_stream, server_stream), max_queue=(1, 0)) as (client, server):

        async def flood() -> None:
            with pytest.raises(ConnectionClosedOK):  # noqa: PT012
                while True:
                    await server.send(bytes(10_000))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            await trio.sleep(1)
            start = trio.current_time()
            await client.aclose()
            assert trio.current_time() == start
            assert client.close_code == 1000


@pytest.mark.parametrize("way", ["cancelled", "cancelled in a nursery", "exception"])
@on_network
async def test_leaving_a_block(network: TrioNetwork, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """The connection is closed at once, and the peer is told, though nobody waits for it."""
    caplog.set_level(logging.INFO)
    *streams, link = socket_pair(network)
    async with open_pair((streams[0], streams[1])) as (client, server):
        start = trio.current_time()
        if way != "exception":
            with trio.move_on_after(1):
                async with client:
                    if way == "cancelled":
                        await trio.sleep_forever()
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(trio.sleep_forever)
                        nursery.start_soon(trio.sleep_forever)
            start += 1
            assert client.close_code == 1006
            with pytest.raises(ConnectionClosedError, match="^sent 1001 .going away.; no close frame received$"):
                await client.send("next")
        else:
            with pytest.raises(ValueError, match="^mine$"):
                async with client:
                    raise ValueError("mine")
        assert client.state is State.CLOSED
        assert trio.current_time() == start
        await trio.testing.wait_all_tasks_blocked()
        assert server.close_code == (1011 if way == "exception" else 1001)
        assert link.client.closed
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@every_kind
@on_network
async def test_cancelled_aclose_logs_nothing(network: TrioNetwork, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    client_stream, server_stream, link = await stream_pair(network, kind)
    async with open_pair((client_stream, server_stream)) as (client, server):
        if link is not None:
            link.hold()
        with trio.move_on_after(0.5) as scope:
            # The answer doesn't come.
            server._ws_pause_reading(True)
            await client.aclose()
        assert scope.cancelled_caught
        assert (client.state, client.close_code) == (State.CLOSED, 1006)
        if link is not None:
            link.release()
    assert caplog.records == []


@every_kind
@on_network
async def test_cancelled_fragments(network: TrioNetwork, kind: str) -> None:
    client_stream, server_stream, _ = await stream_pair(network, kind)
    async with open_pair((client_stream, server_stream)) as (client, server):

        async def endless() -> AsyncIterator[str]:
            yield "first"
            await trio.sleep_forever()

        with trio.move_on_after(1):
            await client.send(endless())
        start = trio.current_time()
        with pytest.raises(ConnectionClosedError, match="sent 1011 .internal error. error in fragmented message"):
            await client.send("next")
        with pytest.raises(ConnectionClosedError, match="received 1011"):
            await server.recv()
        assert trio.current_time() == start


@on_network
async def test_stream_that_is_left(network: TrioNetwork) -> None:
    client_stream, server_stream, _ = await stream_pair(network, "socket")
    async with open_pair((client_stream, server_stream)) as (client, server):
        await server.send(["a", "b"])
        await server.send("next")
        async for piece in client.recv_streaming():
            assert piece == "a"
            break
        assert await client.recv() == "next"


def test_only_what_trio_offers() -> None:
    folder = Path(websockets.trio.__file__).parent
    for path in folder.glob("*.py"):
        assert not re.search(r"\btrio\._|from trio\._|\._(core|run|runner)\b", path.read_text("utf-8")), path


class _FailsToClose(trio.abc.Stream):
    """A stream that raises an error when it is closed, whatever happened before."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            raise OSError("closing failed")


@on_network
async def test_streams_that_fail_to_close(network: TrioNetwork) -> None:
    """Such an error ends no server, and doesn't replace the exception of a block."""
    give, accepted = trio.open_memory_channel[trio.abc.Stream](2)

    class Listener(trio.abc.Listener[trio.abc.Stream]):
        async def accept(self) -> trio.abc.Stream:
            return await accepted.receive()

        async def aclose(self) -> None:
            await accepted.aclose()

    async def talk(exc: Exception) -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        await give.send(_FailsToClose(theirs))
        async with websockets.trio.client.connect("ws://localhost/", stream=_FailsToClose(ours)) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            raise exc

    async with serving(listeners=[Listener()]) as server:
        for _ in range(2):
            error = KeyError("body")
            with pytest.raises(KeyError) as caught:
                await talk(error)
            assert caught.value is error
        assert server.statistics.opened == 2


@pytest.mark.parametrize("data", [b"\x81\x05hello", b""])
@on_network
async def test_aborted_while_a_read_ends(network: TrioNetwork, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    """A socket lets other tasks run after it has read."""

    class Aborting(_FailsToClose):
        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            await aborted.wait()
            return data

    aborted = trio.Event()
    ours, theirs = trio.testing.memory_stream_pair()
    async with open_pair((Aborting(ours), theirs)) as (client, _):
        await trio.testing.wait_all_tasks_blocked()
        aborted.set()
        client.abort()
        await client.wait_closed()
    assert not caplog.records


@on_network
async def test_body_of_a_cancelled_connection(network: TrioNetwork) -> None:
    """The task of the connection may end before the body notices the cancellation; that doesn't change exceptions."""
    error = KeyError("body")

    async def fail(websocket: websockets.trio.client.ClientConnection) -> None:
        raise error

    async def receive(websocket: websockets.trio.client.ClientConnection) -> None:
        await websocket.recv()

    async def send(websocket: websockets.trio.client.ClientConnection) -> None:
        await websocket.send("hello")

    async with serving() as server:
        for act in (fail, receive, send):
            with trio.CancelScope() as scope, contextlib.suppress(KeyError):
                async with websockets.trio.client.connect(uri_of(server)) as websocket:
                    scope.cancel()
                    with trio.CancelScope(shield=True):
                        await websocket.wait_closed()
                    try:
                        await act(websocket)
                    finally:
                        assert websocket.state is State.CLOSED
            assert scope.cancelled_caught is (act is not fail)


@on_network
async def test_errors_of_body_and_nursery(network: TrioNetwork) -> None:
    """Neither is lost."""

    async def fail() -> None:
        raise ValueError("task")

    async with serving() as server:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with websockets.trio.client.connect(uri_of(server)) as websocket:
                websocket.nursery.start_soon(fail)
                try:
                    await trio.sleep_forever()
                finally:
                    raise KeyError("body")
        assert sorted(map(repr, caught.value.exceptions)) == ["KeyError('body')", "ValueError('task')"]


@on_network
async def test_nursery_in_a_block_that_the_program_cancels(network: TrioNetwork) -> None:
    """The cancellation ends with the block; an error of a task leaves."""

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("task")

    async with serving() as server:
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with websockets.trio.client.connect(uri_of(server)) as websocket, trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                await trio.testing.wait_all_tasks_blocked()
                websocket.nursery.cancel_scope.cancel()
                await trio.sleep_forever()
        assert caught.value.split(KeyError)[1] is None


@on_network
async def test_hook_that_fails_while_it_is_cancelled(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    """That mustn't end the server with an error."""
    asked = trio.Event()

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("task")

    async def ask(connection: object, request: object) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            asked.set()
            await trio.sleep_forever()

    async def visit(uri: str) -> None:
        with contextlib.suppress(InvalidMessage):
            async with websockets.trio.client.connect(uri):
                raise AssertionError

    async with serving(process_request=ask) as server, trio.open_nursery() as nursery:
        nursery.start_soon(visit, uri_of(server))
        await asked.wait()
        await trio.testing.wait_all_tasks_blocked()
        await server.aclose(timeout=1)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "opening handshake failed"
    ]
