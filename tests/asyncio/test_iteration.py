"""Loops over ``connect`` that are left: by ``break``, by cancellation, by the end of the program, by the collector.

Nothing may be left pending, whatever the server does, and the server must be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import re
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, cast

import pytest

from _kit import RawPeer, VirtualLoop, idle, virtual, wire
from _kit.site import let_in, refuse, site
from robustness.worlds import LOOPS
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.protocol import State

Iteration = AsyncGenerator[ClientConnection, None]


def iteration(*args: Any, **options: Any) -> Iteration:
    """An iteration, with all that it can do."""
    return cast(Iteration, aiter(connect(*args, **options)))


CLOSE = 0x88  # the first byte of the frame


async def follow(proxy: str | None, uri: str = "ws://example.com/", received: asyncio.Event | None = None) -> None:
    async for connection in connect(uri, proxy=proxy, reconnect_delays=lambda: itertools.repeat(1.0)):
        async for _ in connection:
            assert received is not None
            received.set()


async def open_connection(proxy: str | None) -> RawPeer:
    """Play the proxy, and a server that says nothing more once the connection is open."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    peer = await loop.network.listen("example.com" if proxy is None else "proxy", 80).peer()
    if proxy is not None:
        await peer.read_until()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", await peer.read_until())
    assert key is not None
    await peer.send(wire.response(key=key[1].decode()))
    await idle()
    return peer


# ------------------------------------------------------------------------------------------------ the end of a program


async def leave(task: asyncio.Task[None]) -> None:
    """The task is still running when the program ends."""


async def cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


async def cancel_and_wait(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def cancel_and_forget(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)


@pytest.mark.parametrize("proxy", [None, "http://proxy"], ids=["directly", "through a proxy"])
@pytest.mark.parametrize("end", [leave, cancel, cancel_and_wait, cancel_and_forget])
def test_no_task_outlives_the_program(
    end: Callable[[asyncio.Task[None]], Coroutine[Any, Any, None]], proxy: Any
) -> None:
    async def main() -> RawPeer:
        task = asyncio.create_task(follow(proxy))
        peer = await open_connection(proxy)
        await end(task)
        return peer

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        peer = runner.run(main())
    assert asyncio.all_tasks(loop) == set()
    told = peer.unread
    with contextlib.suppress(BlockingIOError):
        told += peer.sock.recv(100)
    assert told[0] == CLOSE


# The transport says that it wasn't closed; uvloop wants to say it while it closes it.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_no_task_outlives_a_program_over_sockets(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main(listener: socket.socket) -> socket.socket:
        loop = asyncio.get_running_loop()
        received = asyncio.Event()
        task = asyncio.create_task(follow(None, f"ws://127.0.0.1:{listener.getsockname()[1]}/", received))
        sock, _ = await loop.sock_accept(listener)
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += await loop.sock_recv(sock, 4096)
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
        assert key is not None
        await loop.sock_sendall(sock, wire.response(key=key[1].decode()) + wire.text(b"text"))
        await received.wait()
        task.cancel()
        return sock

    with socket.create_server(("127.0.0.1", 0)) as listener, asyncio.Runner(loop_factory=new_loop) as runner:
        listener.setblocking(False)
        loop = runner.get_loop()
        sock = runner.run(main(listener))
    with sock:
        sock.settimeout(10)
        assert sock.recv(100)[0] == CLOSE
    assert asyncio.all_tasks(loop) == set()


# -------------------------------------------------------------------------------------------------------- the collector


@virtual
async def test_any_thread_may_collect_an_iteration() -> None:
    async with site([let_in]) as web:
        iterations = [iteration(web.uri())]
        connection = await anext(iterations[0])
        thread = threading.Thread(target=iterations.clear)
        thread.start()
        thread.join()
        assert connection.state is State.OPEN
        await connection.wait_closed()
        assert connection.close_code == 1000


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_iteration_that_is_collected_after_its_loop_was_closed() -> None:
    """The connection is lost; but there is no error that nobody could do anything about."""

    async def main() -> None:
        answering = asyncio.create_task(open_connection(None))
        iterations.append(iteration("ws://example.com/"))
        await anext(iterations[0])
        await answering

    iterations: list[Iteration] = []
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    iterations.clear()
    gc.collect()


@virtual
async def test_iteration_that_gave_nothing_yet() -> None:
    async with site([let_in]) as web:
        unused = iteration(web.uri())
        del unused
        await idle()
        await iteration(web.uri()).aclose()
    assert web.asked == []


@virtual
async def test_connections_that_close_in_their_own_manner() -> None:
    """An overridden ``close`` is called, as by ``async with``."""

    class Own(ClientConnection):
        async def close(self, *args: Any, **kwargs: Any) -> None:
            calls.append(args)
            await super().close(4000, "bye")

    calls: list[Any] = []
    async with site([let_in]) as web:
        one = iteration(web.uri(), create_connection=Own)
        connection = await anext(one)
        del one
        await connection.wait_closed()
        assert (connection.close_code, connection.close_reason, calls) == (4000, "bye", [()])


# ------------------------------------------------------------------------------------------ as async generators do it


@virtual
async def test_iteration_that_has_ended_gives_no_more() -> None:
    async with site([refuse(404), let_in]) as web:
        failed = iteration(web.uri())
        with pytest.raises(InvalidStatus):
            await anext(failed)
        closed = iteration(web.uri())
        connection = await anext(closed)
        await closed.aclose()
        assert connection.state is State.CLOSED
        await closed.aclose()
        cancelled = iteration("ws://nowhere/", reconnect_delays=lambda: itertools.repeat(1.0))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(cancelled), 5)
        for ended in (failed, closed, cancelled):
            assert [connection async for connection in ended] == []
        assert len(web.asked) == 2


@virtual
async def test_iteration_has_the_methods_of_a_generator() -> None:
    async with site([let_in]) as web:
        following = aiter(connect(web.uri()))
        assert isinstance(following, AsyncGenerator)
        connection = await following.asend(None)
        with pytest.raises(KeyError):
            await following.athrow(KeyError("x"))
        assert connection.state is State.CLOSED
        assert [connection async for connection in following] == []
        with pytest.raises(KeyError):
            await iteration(web.uri()).athrow(KeyError)
        with pytest.raises(KeyError):
            await iteration(web.uri()).athrow(KeyError, KeyError("x"))


@virtual
async def test_one_task_at_a_time() -> None:
    waiting = iteration("ws://nowhere/", reconnect_delays=lambda: itertools.repeat(1.0))
    task = asyncio.create_task(anext(waiting))
    await idle()
    text = "^this iteration over connect\\(\\) is waiting in another task$"
    with pytest.raises(RuntimeError, match=text):
        await anext(waiting)
    with pytest.raises(RuntimeError, match=text):
        await waiting.aclose()
    task.cancel()
    await asyncio.wait([task])
    await waiting.aclose()
