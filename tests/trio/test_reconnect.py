"""Reconnection on trio: a loop over connect() may be left at any time, and leaves nothing open."""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import settings

from _kit import USUAL
from _kit.on_trio import Codes, on_network, serving, uri_of
from _kit.trio_network import TrioNetwork, run_on_network
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.protocol import State
from websockets.trio.client import ClientConnection, connect
from websockets.trio.server import ServerConnection


async def say_hello(websocket: ClientConnection) -> None:
    await websocket.send("hello")
    assert await websocket.recv() == "hello"


@on_network
async def test_a_new_connection_each_time(network: TrioNetwork) -> None:
    seen: list[ClientConnection] = []
    async with serving(codes := Codes()) as server:
        async for websocket in connect(uri_of(server)):
            await say_hello(websocket)
            seen.append(websocket)
            await trio.sleep(10)
            if len(seen) == 3:
                break
        assert [each.close_code for each in seen[:2]] == [1000, 1000]
    assert len(set(seen)) == 3
    # The last one was closed in the background.
    assert codes.seen == [1000, 1000, 1000]


@on_network
async def test_an_error_after_the_loop_was_left(network: TrioNetwork) -> None:
    """Nothing of the loop is open: an error is just an error, and scopes are where they were."""
    async with serving() as server:
        with pytest.raises(ValueError, match="mine"), trio.CancelScope():  # noqa: PT012
            async for websocket in connect(uri_of(server)):
                await say_hello(websocket)
                break
            raise ValueError("mine")
        with trio.move_on_after(1) as scope:
            async for _ in connect(uri_of(server)):
                break
            await trio.sleep(2)
        assert scope.cancelled_caught


@on_network
async def test_left_by_an_error(network: TrioNetwork) -> None:
    async with serving(codes := Codes()) as server:
        with pytest.raises(ValueError, match="mine"):  # noqa: PT012
            async for websocket in connect(uri_of(server)):
                await say_hello(websocket)
                raise ValueError("mine")
        gc.collect()
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(1)
        assert codes.seen == [1000]


@on_network
async def test_left_by_a_cancellation(network: TrioNetwork) -> None:
    async with serving(codes := Codes()) as server:
        with trio.move_on_after(1) as scope:
            async for websocket in connect(uri_of(server)):
                await websocket.recv()
        assert scope.cancelled_caught
        gc.collect()
        await trio.sleep(1)
        assert codes.seen == [1000]
        # A step that is cancelled while it connects or waits ends the iteration.
        stepping = aiter(connect("ws://localhost:1/"))
        with trio.move_on_after(1) as scope:
            await anext(stepping)
        assert scope.cancelled_caught
        with pytest.raises(StopAsyncIteration):
            await anext(stepping)


@on_network
async def test_many_breaks(network: TrioNetwork) -> None:
    """Not one warns, and nothing is left: warnings are errors here."""
    count = 1000 * settings().max_examples // USUAL
    async with serving(codes := Codes()) as server:
        for _ in range(count):
            async for websocket in connect(uri_of(server), compression=None):
                assert websocket.state is State.OPEN
                break
        gc.collect()
        await trio.sleep(1)
        assert codes.seen == [1000] * count
        tasks = trio.lowlevel.current_statistics().tasks_living
        async for _ in connect(uri_of(server)):
            break
        await trio.sleep(1)
        assert trio.lowlevel.current_statistics().tasks_living == tasks


def test_left_when_the_run_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """An iteration that outlives its run is just forgotten; the connection ended with the run."""
    kept: list[Any] = []

    async def main(network: TrioNetwork) -> None:
        async with serving() as server:
            iteration = aiter(connect(uri_of(server)))
            kept.extend([iteration, await anext(iteration)])
            await server.aclose(timeout=1)

    run_on_network(main)
    assert kept[1].state is State.CLOSED
    kept.clear()
    gc.collect()


def test_nothing_is_left_of_an_iteration() -> None:
    async def main(network: TrioNetwork) -> None:
        async with serving() as server:
            for _ in range(2):
                async for websocket in connect(uri_of(server)):
                    await say_hello(websocket)
                    break
            await trio.testing.wait_all_tasks_blocked()
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(aiter(connect(uri_of(server))))
        await trio.testing.wait_all_tasks_blocked()
        root = trio.lowlevel.current_root_task()
        assert root is not None
        names = [task.name for nursery in root.child_nurseries for task in nursery.child_tasks]
        assert not [name for name in names if "websockets.trio" in name]

    run_on_network(main)
    run_on_network(main)


@on_network
async def test_cancelling_the_nursery_of_a_connection(network: TrioNetwork) -> None:
    """Other connections of iterations have their own."""
    async with serving() as server:
        others = aiter(connect(uri_of(server)))
        other = await anext(others)
        stepping = aiter(connect(uri_of(server)))
        websocket = await anext(stepping)
        websocket.nursery.cancel_scope.cancel()
        # At once, while the nursery ends.
        websocket = await anext(stepping)
        await say_hello(websocket)
        await say_hello(other)


@on_network
async def test_errors_in_the_supervisor(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    """They are logged; the run goes on, and so does the next connection."""

    async def fail() -> None:
        raise ValueError("mine")

    async with serving() as server:
        stepping = aiter(connect(uri_of(server)))
        websocket = await anext(stepping)
        others = aiter(connect(uri_of(server)))
        other = await anext(others)
        websocket.nursery.start_soon(fail)
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
        await say_hello(other)
        await trio.sleep(10)
        await say_hello(await anext(stepping))
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "unexpected internal error"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ExceptionGroup)


# --------------------------------------------------------------------------------------------------------------- delays


@on_network
async def test_delays(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.client")
    port = 8000

    async def serve_late() -> None:
        await trio.sleep(8)
        sock = trio.socket.socket()
        await sock.bind(("127.0.0.1", port))
        sock.listen()
        async with serving(listeners=[trio.SocketListener(sock)]):
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_late)
        async for websocket in connect(f"ws://localhost:{port}/", reconnect_delays=lambda: iter([1, 2, 3, 4, 5])):
            await say_hello(websocket)
            assert trio.current_time() == 10
            nursery.cancel_scope.cancel()
            break
    messages = [record.getMessage() for record in caplog.records if record.name == "websockets.client"]
    assert [message.partition(":")[0] for message in messages] == [
        f"connect failed; reconnecting in {delay}.0 seconds" for delay in (1, 2, 3, 4)
    ]


@on_network
async def test_accepted_and_closed_at_once(network: TrioNetwork) -> None:
    async def leave(websocket: ServerConnection) -> None:
        times.append(trio.current_time())

    times: list[float] = []
    async with serving(leave) as server:
        with pytest.raises(ConnectionClosedOK):  # noqa: PT012
            async for websocket in connect(uri_of(server), reconnect_delays=lambda: iter([1, 2])):
                await websocket.wait_closed()
        assert times == [0, 1, 3]


@on_network
async def test_fatal_errors(network: TrioNetwork) -> None:
    async with serving(process_request=lambda connection, _: connection.respond(404, "no")) as server:
        with pytest.raises(InvalidStatus):
            async for _ in connect(uri_of(server)):
                pass


@on_network
async def test_finite_delays(network: TrioNetwork) -> None:
    with pytest.raises(OSError, match="all attempts to connect"):
        async for _ in connect("ws://localhost:1/", reconnect_delays=lambda: iter([1])):
            pass
    assert trio.current_time() == 1


# --------------------------------------------------------------------------------------------------- an async generator


@on_network
async def test_two_tasks(network: TrioNetwork) -> None:
    network.listen(port=80)
    stepping: Any = aiter(connect("ws://localhost/"))
    assert aiter(stepping) is stepping
    async with trio.open_nursery() as nursery:
        nursery.start_soon(anext, stepping)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RuntimeError, match=r"^this iteration over connect\(\) is waiting in another task$"):
            await anext(stepping)
        nursery.cancel_scope.cancel()


@on_network
async def test_methods_of_a_generator(network: TrioNetwork) -> None:
    async with serving(codes := Codes()) as server:
        stepping: Any
        async with contextlib.aclosing(aiter(connect(uri_of(server)))) as stepping:  # type: ignore[type-var]
            first = await stepping.asend(None)
            await say_hello(first)
        assert first.close_code == 1000
        with pytest.raises(StopAsyncIteration):
            await anext(stepping)
        for given in (ValueError("mine"),), (ValueError, ValueError("mine")), (ValueError,):
            stepping = aiter(connect(uri_of(server)))
            second = await anext(stepping)
            with pytest.raises(ValueError, match=r"^(mine)?$"):
                await stepping.athrow(*given)
            assert second.close_code == 1000
        # One that was never used.
        await aiter(connect(uri_of(server))).aclose()  # type: ignore[attr-defined]
    assert codes.seen == [1000] * 4


# ------------------------------------------------------------------------------------------------------------- attempts


@on_network
async def test_attempts(network: TrioNetwork) -> None:
    seen: list[ClientConnection] = []
    async with serving(codes := Codes()) as server:
        tasks = trio.lowlevel.current_statistics().tasks_living
        attempts: AsyncIterator[ClientConnection]
        async with connect(uri_of(server)).attempts() as attempts:
            async for websocket in attempts:
                await say_hello(websocket)
                seen.append(websocket)
                await trio.sleep(10)
                if len(seen) == 2:
                    break
            # It is open until the end of the block.
            assert seen[-1].state is State.OPEN
        assert [each.close_code for each in seen] == [1000, 1000]
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert codes.seen == [1000, 1000]


@on_network
async def test_attempts_left_otherwise(network: TrioNetwork) -> None:
    async with serving(codes := Codes()) as server:
        error = ValueError("mine")
        with pytest.raises(ValueError, match="mine") as raised:  # noqa: PT012
            async with connect(uri_of(server)).attempts() as attempts:
                async for websocket in attempts:
                    await say_hello(websocket)
                    raise error
        assert raised.value is error
        with trio.move_on_after(1) as scope:
            async with connect(uri_of(server)).attempts() as attempts:
                async for websocket in attempts:
                    await say_hello(websocket)
                    await trio.sleep_forever()
        assert scope.cancelled_caught
    # The second one was told without waiting.
    assert codes.seen in ([1011, 1001], [1011, 1011])


@on_network
async def test_attempts_that_fail(network: TrioNetwork) -> None:
    delays = itertools.repeat(1.0, 3)
    with pytest.raises(OSError, match="all attempts to connect"):  # noqa: PT012
        async with connect("ws://localhost:1/", reconnect_delays=lambda: delays).attempts() as attempts:
            async for _ in attempts:
                pass
    assert trio.current_time() == 3
