"""How tasks go on: inside a read where that is safe, and never with other results than in the next turn of the loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from _kit import request, steps, virtual
from _kit.sockets import anonymous_tls
from core._twins import TWINS
from robustness.worlds import DEFLATE, LOOPS
from websockets.asyncio import _internals
from websockets.asyncio._internals import PLAIN_LOOPS, RUNNING_TASKS, current_task, note_loop
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, broadcast, serve

from .test_fast_path_twins import PATHS, Twin, every_twin

each_loop = pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)

# ----------------------------------------------------------------------------- what is to end the program ends the loop

ENDING = """
import asyncio, ssl, sys
sys.path[:0] = {path!r}
from asyncio_tests import anonymous_tls
from websockets.asyncio.client import connect, unix_connect
from websockets.asyncio.server import serve, unix_serve

where, loop, kind = {where!r}, {loop!r}, {kind!r}
Ending = dict(exit=lambda: SystemExit(3), interrupt=KeyboardInterrupt)[kind]

async def quit_on_message(ws):
    if where == "iteration":
        async for message in ws:
            raise Ending()
    if await ws.recv() == "quit":
        raise Ending()

async def talk(ws):
    await ws.send("quit")
    await ws.wait_closed()

async def main():
    tls, trusting = anonymous_tls() if where == "tls" else (None, None)
    handler, use = (talk, quit_on_message) if where in ("client", "task") else (quit_on_message, talk)
    if where == "unix":
        serving = unix_serve(handler, {socket!r})
    else:
        serving = serve(handler, "127.0.0.1", 0, ssl=tls)
    async with serving as server:
        if where == "unix":
            connecting = unix_connect({socket!r}, "ws://localhost/", proxy=None)
        else:
            port = next(iter(server.sockets)).getsockname()[1]
            scheme = "wss" if tls else "ws"
            connecting = connect(scheme + "://127.0.0.1:%d/" % port, ssl=trusting, proxy=None)
        async with connecting as client:
            if where == "task":
                asyncio.create_task(use(client))
                await asyncio.sleep(60)
            else:
                await use(client)
    print("the program went on")

if loop == "uvloop":
    import uvloop
    run = uvloop.run
else:
    run = asyncio.run
try:
    run(main())
except KeyboardInterrupt:
    sys.exit(4)
"""


@pytest.mark.parametrize(
    ("where", "kind"),
    [*((where, "exit") for where in ("server", "client", "task", "iteration", "tls", "unix")), ("server", "interrupt")],
)
@pytest.mark.parametrize("loop", LOOPS)
def test_what_ends_a_program_leaves_the_loop(loop: str, where: str, kind: str, tmp_path: Path) -> None:
    """``sys.exit()`` after ``await recv()``: some loops would keep it as an error of the transport."""
    if where == "unix" and not hasattr(socket, "AF_UNIX"):
        pytest.skip("there are no Unix sockets here")
    (tmp_path / "asyncio_tests.py").write_text(
        "from __future__ import annotations\nimport ssl\n" + inspect.getsource(anonymous_tls), "utf-8"
    )
    code = ENDING.format(path=[str(tmp_path)], where=where, loop=loop, kind=kind, socket=str(tmp_path / "socket"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60, env=dict(os.environ)
    )
    assert (done.stdout, done.returncode) == ("", 3 if kind == "exit" else 4), done.stderr
    assert "Fatal error" not in done.stderr


@each_loop
def test_the_rest_of_a_read_is_not_lost(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A program that runs the loop again after ``SystemExit`` finds everything that arrived."""
    got: list[object] = []

    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async def stop(client: Any) -> None:
        got.append(await client.recv())
        raise SystemExit

    async def begin() -> tuple[Any, Any, asyncio.Task[None]]:
        server = await serve(handler, "127.0.0.1", 0, compression=None)
        port = next(iter(server.sockets)).getsockname()[1]
        client = await connect(f"ws://127.0.0.1:{port}/", proxy=None, compression=None)
        task = asyncio.create_task(stop(client))
        await asyncio.sleep(0)
        return server, client, task

    async def provoke(server: Any, client: Any) -> None:
        (connection,) = server.connections
        # One read: messages, a ping that needs an answer, and more messages.
        frames = b"".join(b"\x81\x01%d" % number for number in range(4)) + b"\x89\x01?" + b"\x81\x01e"
        connection.transport.write(frames)
        await asyncio.wait_for(client.wait_closed(), 60)

    async def finish(server: Any, client: Any) -> None:
        for _ in range(4):
            got.append(await client.recv())
        await client.close()
        server.close()
        await server.wait_closed()

    loop = new_loop()
    try:
        server, client, task = loop.run_until_complete(begin())
        with pytest.raises(SystemExit):
            loop.run_until_complete(provoke(server, client))
        assert isinstance(task.exception(), SystemExit)
        loop.run_until_complete(finish(server, client))
    finally:
        for pending in asyncio.all_tasks(loop):
            pending.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    assert got == ["0", "1", "2", "3", "e"]


@every_twin
@pytest.mark.parametrize("ending", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_an_exit_in_a_read_leaves_the_loop_in_the_next_turn(twin: Twin, ending: BaseException) -> None:
    loop = asyncio.new_event_loop()
    turns: list[str] = []

    async def wait(waiter: Any) -> None:
        await waiter
        raise ending

    async def main() -> None:
        waiter = twin.waiter(loop)
        task = asyncio.ensure_future(wait(waiter))
        await asyncio.sleep(0)

        def read() -> None:
            waiter.resume()
            turns.append("the read ends")
            assert task.done()

        loop.call_soon(read)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        turns.append("never")

    try:
        with pytest.raises(type(ending)) as raised:
            loop.run_until_complete(main())
        assert raised.value is ending
        assert turns == ["the read ends"]
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


# ----------------------------------------------------------------------------------------- loops that may be re-entered


class Reentrant(asyncio.SelectorEventLoop):
    """A loop that runs inside itself, as nest_asyncio makes of others."""

    def run_until_complete(self, future: Any) -> Any:
        if not self.is_running():
            return super().run_until_complete(future)
        outer = asyncio.current_task(self)
        inner = asyncio.ensure_future(future, loop=self)
        assert outer is not None
        asyncio.tasks._leave_task(self, outer)
        try:
            for _ in range(10_000):
                if inner.done():
                    return inner.result()
                self._run_once()  # type: ignore[attr-defined]
            raise TimeoutError("the inner task does not end")
        finally:
            asyncio.tasks._enter_task(self, outer)


@pytest.mark.parametrize("iterate", [False, True])
def test_a_loop_inside_itself(iterate: bool) -> None:
    """``await recv()``, then ``run_until_complete(ask())`` in the same task: the answer comes in another read."""

    async def ask(client: Any) -> object:
        await client.send("question")
        return await client.recv()

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            assert isinstance(message, str)
            await connection.send(message + "!")

    async def main() -> list[object]:
        loop = asyncio.get_running_loop()
        async with serve(echo, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}/", proxy=None) as client:
                await client.send("first")
                first = await anext(aiter(client)) if iterate else await client.recv()
                return [first, loop.run_until_complete(ask(client)), loop.run_until_complete(ask(client))]

    with asyncio.Runner(loop_factory=Reentrant) as runner:
        assert runner.run(main()) == ["first!", "question!", "question!"]


@every_twin
def test_where_tasks_go_on_in_a_read(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only in loops that are known to run nothing inside of a read; a loop may become another one at any time."""

    async def wait(waiter: Any) -> None:
        await waiter

    async def look() -> bool:
        loop = asyncio.get_running_loop()
        waiter = twin.waiter(loop)
        task = loop.create_task(wait(waiter))
        await asyncio.sleep(0)
        at_once = loop.create_future()

        def read() -> None:
            waiter.resume()
            at_once.set_result(task.done())

        loop.call_soon(read)
        await task
        return bool(await at_once)

    def run(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> bool:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            note_loop(runner.get_loop())
            return runner.run(look())

    assert all(run(new_loop) for new_loop in LOOPS.values())
    assert not run(Reentrant)
    original = asyncio.BaseEventLoop.run_until_complete
    patched = lambda self, future: original(self, future)  # noqa: E731
    monkeypatch.setattr(asyncio.SelectorEventLoop, "run_until_complete", patched, raising=False)
    assert not run(asyncio.SelectorEventLoop)
    monkeypatch.undo()
    assert run(asyncio.SelectorEventLoop)


@every_twin
@virtual
async def test_a_task_that_asyncio_does_not_tell_of(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python 3.14 on, its function in C doesn't know of tasks in Python; earlier ones are made not to."""
    tells = lambda loop: None  # noqa: E731
    monkeypatch.setattr(_internals, "current_task", tells)
    if twin is PATHS.get("native"):
        TWINS["native"].know_tasks(tells, RUNNING_TASKS)
    loop = asyncio.get_running_loop()
    waiter = twin.waiter(loop)

    async def wait() -> None:
        await waiter

    async def end() -> bool:
        waiter.resume()
        return waiting.done()

    waiting = loop.create_task(wait())
    await asyncio.sleep(0)
    try:
        assert not await asyncio.tasks._PyTask(end(), loop=loop)  # type: ignore[attr-defined]
        await waiting
    finally:
        if twin is PATHS.get("native"):
            TWINS["native"].know_tasks(current_task, RUNNING_TASKS)


def test_loops_that_are_known() -> None:
    assert asyncio.BaseEventLoop.run_until_complete in PLAIN_LOOPS
    loop = Reentrant()
    note_loop(loop)
    loop.close()
    assert Reentrant.run_until_complete not in PLAIN_LOOPS


def test_a_loop_that_was_changed_before_the_library_saw_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio.BaseEventLoop, "run_until_complete", lambda self, future: None)
    assert _internals._of(asyncio.BaseEventLoop, "run_until_complete", asyncio.base_events) is None


# ---------------------------------------------------------------------------------------- waiters that can't be resumed


@every_twin
@virtual
async def test_a_context_that_is_entered_already(twin: Twin) -> None:
    """As when two tasks share one: the task goes on in the next turn."""
    loop = asyncio.get_running_loop()
    shared = contextvars.copy_context()
    waiter = twin.waiter(loop)

    async def wait() -> str:
        await waiter
        return "done"

    task = loop.create_task(wait(), context=shared)
    await steps(2)
    seen: list[bool] = []

    def read() -> None:
        waiter.resume()
        seen.append(task.done())

    loop.call_soon(read, context=shared)
    assert await asyncio.wait_for(task, 5) == "done"
    assert seen == [False]


@every_twin
@virtual
async def test_a_callback_that_fails(twin: Twin) -> None:
    """It isn't taken for a context that is entered already: the caller that read gets the exception."""

    def fail(waiter: Any) -> None:
        raise RuntimeError("no way")

    loop = asyncio.get_running_loop()
    waiter = twin.waiter(loop)
    waiter.add_done_callback(fail, context=contextvars.copy_context())
    raised: list[str] = []

    def read() -> None:
        try:
            waiter.resume()
        except RuntimeError as exc:
            raised.append(str(exc))

    loop.call_soon(read)
    await steps(2)
    assert raised == ["no way"]


class Refusing:
    """A loop whose ``call_soon`` fails for a while, as without memory."""

    run_until_complete = None

    def __init__(self) -> None:
        self.fails = True
        self.called: list[object] = []

    def call_soon(self, callback: Any, *arguments: Any, context: Any = None) -> None:
        if self.fails:
            raise MemoryError
        self.called.append(callback)


@every_twin
@pytest.mark.parametrize("how", ["wake", "resume", "cancel"])
def test_a_loop_that_takes_no_call(twin: Twin, how: str) -> None:
    """An error, and the task can still be resumed, or cancelled."""
    loop = Refusing()
    waiter = twin.waiter(loop)
    waiter.add_done_callback(print, context=contextvars.copy_context())
    for _ in range(2):
        with pytest.raises(MemoryError):
            getattr(waiter, how)()
        assert not waiter.done()
    loop.fails = False
    getattr(waiter, how)()
    assert waiter.done()
    assert waiter.cancelled() is (how == "cancel")
    assert loop.called == [print]


# -------------------------------------------------------------------------------------------------------- eager tasks


async def at_once(function: Callable[..., object], *arguments: Any) -> None:
    function(*arguments)


FIRST_STEPS: dict[str, Callable[[Any], Awaitable[object]]] = {
    "text": lambda connection: connection.send("m"),
    "bytes": lambda connection: connection.send(b"m"),
    "fragments": lambda connection: connection.send(["m", "n"]),
    "ping": lambda connection: connection.ping(b"m"),
    "broadcast": lambda connection: at_once(broadcast, [connection], "m"),
    "close": lambda connection: connection.close(1001),
    "abort": lambda connection: at_once(connection.abort),
}


def runs_eager_tasks(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> bool:
    """Whether there are eager tasks, and a loop can make them: some releases of uvloop can't on Python 3.13.0."""

    async def nothing() -> None:
        pass

    async def make() -> None:
        loop, coroutine = asyncio.get_running_loop(), nothing()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        try:
            await loop.create_task(coroutine)
        finally:
            coroutine.close()
            loop.set_task_factory(None)

    if sys.version_info < (3, 12):
        return False
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(make())
    except TypeError:
        return False
    return True


@pytest.mark.parametrize("first", FIRST_STEPS)
@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("compression", [None, "deflate"])
@each_loop
def test_the_response_comes_first(
    new_loop: Callable[[], asyncio.AbstractEventLoop], compression: str | None, hooked: bool, first: str
) -> None:
    """Whatever a handler does in its first step, and however early its task begins."""
    if not runs_eager_tasks(new_loop):
        pytest.skip("there are no eager tasks here")

    async def handler(connection: ServerConnection) -> None:
        await FIRST_STEPS[first](connection)

    def process_request(connection: ServerConnection, request: Any) -> None:
        return None

    def read(peer: socket.socket) -> bytes:
        got = bytearray()
        with peer, contextlib.suppress(ConnectionResetError):
            while piece := peer.recv(2**16):
                got += piece
        return bytes(got)

    async def test() -> bytes:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        options: dict[str, Any] = {"process_request": process_request} if hooked else {}
        async with serve(handler, "127.0.0.1", 0, compression=compression, close_timeout=0, **options) as server:
            peer = socket.create_connection(next(iter(server.sockets)).getsockname())
            peer.sendall(request(headers=DEFLATE if compression else None))
            return await asyncio.to_thread(read, peer)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        got = runner.run(test())
    head, end, _ = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert end
