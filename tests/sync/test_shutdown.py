"""The end of a server for threads: who is told, who waits for whom, and what happens when time is up."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from _kit import request
from _kit.blocking import PATIENCE, BlockingPeer, Logged, Made, ask, echo, enter, knock, serving, waiting
from _kit.platforms import needs_fork, needs_signals
from _kit.proxy_header import line
from _kit.sockets import anonymous_tls
from scenarios._serving import enter as enter_scenario
from scenarios._threads import run_in_threads
from websockets.exceptions import ProtocolError
from websockets.http11 import Request
from websockets.sync import _serving, _shutdown
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve


@pytest.fixture
def logged() -> Iterator[Logged]:
    with Logged() as logged:
        yield logged


class Background(threading.Thread):
    """A thread whose result a test can wait for."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._outcome: queue.Queue[BaseException | None] = queue.Queue()
        self.start()

    def run(self) -> None:
        try:
            self._function()
        except BaseException as exc:
            self._outcome.put(exc)
        else:
            self._outcome.put(None)

    def result(self) -> None:
        """Wait for the end; raise what was raised."""
        outcome = self._outcome.get(timeout=PATIENCE)
        self.join()
        if outcome is not None:
            raise outcome


class Stubborn:
    """A handler that doesn't end before it is told."""

    def __init__(self) -> None:
        self.names: queue.Queue[str] = queue.Queue()
        self.go_on = threading.Event()
        self.ended = threading.Event()

    def __call__(self, connection: ServerConnection) -> None:
        self.names.put(threading.current_thread().name)
        assert self.go_on.wait(PATIENCE)
        self.ended.set()

    def name(self) -> str:
        """Wait until the handler runs; return the name of its thread."""
        return self.names.get(timeout=PATIENCE)


# ---------------------------------------------------------------------------------------------------------- who is told


def test_open_connections_are_closed(logged: Logged) -> None:
    with serving(waiting) as server, enter(server) as client:
        stopping = Background(lambda: server.shutdown(code=1012, reason="restart"))
        assert client.answer_close() == (1012, "restart")
        stopping.result()
        assert server.fileno() == -1
        assert server.connections == set()
    assert [each for each in logged.lines if each.startswith("server c")] == ["server closing", "server closed"]


def test_the_block_ends_with_a_shutdown() -> None:
    codes: list[Any] = []
    with serving(waiting) as server:
        client = enter(server)
        answering = Background(lambda: codes.append(client.answer_close()))
    answering.result()
    assert codes == [(1001, "")]


def test_connections_may_end_by_themselves(logged: Logged) -> None:
    with serving() as server, enter(server) as client:
        address = server.socket.getsockname()
        stopping = Background(lambda: server.shutdown(close_connections=False))
        logged.find("server closing")
        client.text("still there")
        assert client.read_frame().payload == b"still there"
        assert stopping.is_alive()
        client.leave()
        stopping.result()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


def test_clients_without_a_request_are_refused() -> None:
    made = Made()
    with serving(create_connection=made) as server, knock(server) as silent, knock(server) as slow:
        slow.send(b"GET / HTTP/1.1\r\n")
        for _ in range(2):
            made.next()
        stopping = Background(server.shutdown)
        for client in silent, slow:
            assert client.read_until_eof().startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            client.close()
        stopping.result()
    assert server.statistics.refused == {"server is shutting down": 2}


def test_clients_in_the_tls_handshake_are_cut_off() -> None:
    made = Made()
    context, _ = anonymous_tls()
    with serving(create_connection=made, ssl=context) as server, knock(server) as silent:
        made.next()
        server.shutdown()
        with contextlib.suppress(ConnectionResetError):
            assert silent.read_until_eof() == b""


def test_clients_whose_request_is_with_a_hook_are_refused() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def process_request(connection: ServerConnection, request: Request) -> None:
        asked.set()
        assert go_on.wait(PATIENCE)

    with serving(process_request=process_request) as server, knock(server) as client, Logged() as logged:
        client.send(request())
        assert asked.wait(PATIENCE)
        stopping = Background(server.shutdown)
        logged.find("server closing")
        go_on.set()
        assert client.read_until_eof().startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        client.close()
        stopping.result()


def test_a_client_that_is_accepted_just_before_the_end(logged: Logged) -> None:
    def create_connection(*arguments: Any, **options: Any) -> ServerConnection:
        stopping.append(Background(server.shutdown))
        logged.find("server closing")
        return ServerConnection(*arguments, **options)

    stopping: list[Background] = []
    with serving(create_connection=create_connection) as server, knock(server) as client:
        assert client.read_until_eof().startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        client.close()
        stopping[0].result()


def test_a_client_that_waits_for_its_proxy_is_cut_off() -> None:
    made = Made()
    with serving(create_connection=made, proxy_protocol=["127.0.0.1"]) as server, knock(server) as client:
        made.next()
        server.shutdown()
        with contextlib.suppress(ConnectionResetError):
            assert client.read_until_eof() == b""
    assert server.statistics.refused == {"server is shutting down": 1}


def test_wrong_codes_close_nothing() -> None:
    with serving() as server, enter(server) as client:
        with pytest.raises(ProtocolError):
            server.shutdown(code=1005)
        with pytest.raises(TypeError):
            server.shutdown(timeout="5")  # type: ignore[arg-type]
        client.text("hello")
        assert client.read_frame().payload == b"hello"
        client.leave()


def test_a_connection_with_its_own_way_of_closing(logged: Logged) -> None:
    closed: queue.Queue[tuple[int, str]] = queue.Queue()

    class Mine(ServerConnection):
        def close(self, code: int = 1000, reason: str = "", **options: Any) -> None:
            closed.put((code, reason))
            raise LookupError("not today")

    with serving(waiting, create_connection=Mine) as server, enter(server) as client:
        stopping = Background(server.shutdown)
        assert client.answer_close() == (1001, "")
        stopping.result()
    assert closed.get_nowait() == (1001, "")
    assert logged.find("closing failed").exc_info is not None


# --------------------------------------------------------------------------------------------------- who waits for whom


def test_several_threads_may_ask() -> None:
    with serving(waiting) as server, enter(server) as client:
        asking = [Background(server.shutdown) for _ in range(3)]
        client.answer_close()
        for thread in asking:
            thread.result()
        server.shutdown()


def test_a_handler_may_ask() -> None:
    """It waits for the others, and not for itself."""
    returned = threading.Event()
    late = Stubborn()

    def handler(connection: ServerConnection) -> None:
        if connection.request is not None and connection.request.path == "/stop":
            server.shutdown()
            assert late.ended.is_set()
            returned.set()
        else:
            late(connection)

    with serving(handler) as server, enter(server) as other:
        late.name()
        with enter(server, request("/stop")) as client:
            assert other.answer_close() == (1001, "")
            assert client.answer_close() == (1001, "")
            assert not returned.is_set()
            late.go_on.set()
            assert returned.wait(PATIENCE)


def test_several_handlers_may_ask() -> None:
    """Nobody waits for a handler that waits for the others."""
    both = threading.Barrier(2)

    def handler(connection: ServerConnection) -> None:
        both.wait(PATIENCE)
        server.shutdown()

    with serving(handler) as server:
        clients = [enter(server), enter(server)]
        for client in clients:
            assert client.answer_close() == (1001, "")


def test_a_hook_may_ask() -> None:
    def process_request(connection: ServerConnection, request: Request) -> None:
        server.shutdown()

    with serving(process_request=process_request) as server:
        assert ask(server, request()).status == "503 Service Unavailable"


def test_a_handler_of_a_server_that_nobody_serves_any_more(logged: Logged) -> None:
    """``serve_forever()`` was left by an exception; the handler's shutdown is over when its connection is."""
    asked = threading.Event()

    def handler(connection: ServerConnection) -> None:
        assert asked.wait(PATIENCE)
        server.shutdown()

    server = serve(handler, "127.0.0.1", 0)
    serving = Background(server.serve_forever)
    client = enter(server)
    server.socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OSError, match=r"^\[(Errno|WinError)"):
        serving.result()
    asked.set()
    assert client.answer_close() == (1001, "")
    logged.find("server closed")
    assert server.fileno() == -1


def test_a_server_that_nobody_serves(logged: Logged) -> None:
    with serve(echo, "127.0.0.1", 0) as server:
        address = server.socket.getsockname()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    assert logged.lines[1:] == ["server closing", "server closed"]


def test_serving_after_the_shutdown() -> None:
    """The thread that serves may be late, and that is no error; to serve again is one."""
    with serve(echo, "127.0.0.1", 0) as server:
        pass
    server.serve_forever()
    with pytest.raises(RuntimeError, match=r"^serve_forever\(\) after shutdown\(\): the server is closed$"):
        server.serve_forever()


def test_serving_twice() -> None:
    with serving() as server, enter(server) as client:
        with pytest.raises(RuntimeError, match=r"^serve_forever\(\) is already running$"):
            server.serve_forever()
        client.leave()


# -------------------------------------------------------------------------------------------------------------- signals


@contextlib.contextmanager
def handling(function: Callable[[], Any]) -> Iterator[None]:
    """Call a function for each signal, in the main thread."""
    before = signal.signal(signal.SIGUSR1, lambda *_: function())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def interrupt() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


@needs_signals
def test_a_signal_handler_in_the_serving_thread() -> None:
    """It returns at once, and ``serve_forever()`` waits."""
    late, returned = Stubborn(), threading.Event()

    def stop() -> None:
        server.shutdown()
        assert not late.ended.is_set()
        returned.set()

    def script() -> None:
        client = enter(server)
        late.name()
        interrupt()
        assert returned.wait(PATIENCE)
        assert client.answer_close() == (1001, "")
        late.go_on.set()

    with handling(stop), serve(late, "127.0.0.1", 0) as server:
        scripted = Background(script)
        server.serve_forever()
        assert late.ended.is_set()
        scripted.result()


@needs_signals
def test_a_second_signal_shortens_the_wait(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shutdown, "PATIENCE", 0.05)
    late, timeouts = Stubborn(), [None, 0.0]

    def script() -> None:
        with enter(server):
            late.name()
            interrupt()
            logged.find("server closing")
            interrupt()

    with handling(lambda: server.shutdown(timeout=timeouts.pop(0))), serve(late, "127.0.0.1", 0) as server:
        scripted = Background(script)
        server.serve_forever()
        scripted.result()
    assert not timeouts
    assert not late.ended.is_set()
    late.go_on.set()


@needs_signals
def test_a_signal_handler_during_the_shutdown(logged: Logged) -> None:
    """The thread that waits already doesn't wait in its signal handler."""
    late = Stubborn()

    def script() -> None:
        client = enter(server)
        late.name()
        started.set()
        logged.find("server closing")
        interrupt()
        client.answer_close()
        assert signalled.wait(PATIENCE)
        late.go_on.set()

    def stop() -> None:
        server.shutdown()
        signalled.set()

    started, signalled = threading.Event(), threading.Event()
    with handling(stop), serving(late) as server:
        scripted = Background(script)
        assert started.wait(PATIENCE)
        server.shutdown()
        scripted.result()


@needs_signals
def test_an_exception_of_a_signal_handler_leaves_the_server(logged: Logged) -> None:
    class Left(Exception):
        pass

    def leave() -> None:
        raise Left

    def script() -> None:
        with enter(server) as client:
            interrupt()
            assert client.answer_close() == (1001, "")

    with handling(leave), serve(waiting, "127.0.0.1", 0) as server:
        scripted = Background(script)
        with pytest.raises(Left):
            server.serve_forever()
        assert server.fileno() != -1
        assert "server closing" not in logged.lines
    scripted.result()


PROGRAM = """
import sys
from websockets.sync.server import serve

def handler(connection):
    for message in connection:
        connection.send(message)

with serve(handler, "127.0.0.1", 0) as server:
    print(server.socket.getsockname()[1], flush=True)
    server.serve_forever()
"""


@needs_signals
def test_one_press_of_ctrl_c_ends_a_program(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            client = BlockingPeer(socket.create_connection(("127.0.0.1", port)))
            client.send(request())
            client.read_until()
            process.send_signal(signal.SIGINT)
            assert client.answer_close() == (1001, "")
            _, errors = process.communicate(timeout=PATIENCE)
        except BaseException:
            process.kill()
            raise
    assert errors.endswith(b"KeyboardInterrupt\n"), errors
    assert process.returncode == -signal.SIGINT


FORKING = """
import os, signal
from websockets.sync.server import serve

def handler(connection):
    connection.send(str(os.getpid()))

with serve(handler, "127.0.0.1", 0, compression=None) as server:
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, lambda *_: server.shutdown())
            server.serve_forever()
            os._exit(0)
        children.append(child)
    print(server.socket.getsockname()[1], *children, flush=True)
    input()
    for child in children:
        os.kill(child, signal.SIGTERM)
    print(*[os.waitpid(child, 0)[1] for child in children])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="takes fork()")
def test_several_processes_accept_at_one_socket() -> None:
    command = [sys.executable, "-c", FORKING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        children: list[str] = []
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            port, *children = process.stdout.readline().split()
            seen = []
            for _ in children:
                with BlockingPeer(socket.create_connection(("127.0.0.1", int(port)))) as client:
                    client.send(request())
                    client.read_until()
                    seen.append(client.read_frame().payload.decode())
                    client.answer_close()
                # Leave the next client to the other process.
                os.kill(int(seen[-1]), signal.SIGSTOP)
            for child in children:
                os.kill(int(child), signal.SIGCONT)
            assert sorted(seen) == sorted(children)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.read() == "0 0\n"
        except BaseException:
            process.kill()
            for child in children:
                os.kill(int(child), signal.SIGKILL)
            raise


# ------------------------------------------------------------------------------------------------------------- time-out


@pytest.mark.scenario(82)
def test_connections_are_cut_off() -> None:
    """A client that doesn't answer the Close frame, and a handler that sends to it."""
    with serving(waiting, close_timeout=None) as server, enter(server) as client:
        server.shutdown(timeout=0.05)
        with contextlib.suppress(ConnectionResetError):
            assert client.read_close() == (1001, "")
            assert client.read_until_eof() == b""


def test_clients_are_cut_off_that_were_to_end_by_themselves() -> None:
    with serving(waiting, close_timeout=None) as server, enter(server) as client:
        server.shutdown(close_connections=False, timeout=0.05)
        with contextlib.suppress(ConnectionResetError):
            assert client.read_close() == (1001, "")
            assert client.read_until_eof() == b""


def test_clients_that_wait_for_their_proxy_are_cut_off_at_once() -> None:
    made = Made()
    with serving(create_connection=made, proxy_protocol=["127.0.0.1"]) as server, knock(server) as client:
        client.send(line(("10.0.0.1", 1), ("10.0.0.2", 2))[:9])
        made.next()
        server.shutdown(timeout=0.05)
        with contextlib.suppress(ConnectionResetError):
            assert client.read_until_eof() == b""


def test_handlers_that_still_run_are_named_and_left(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shutdown, "PATIENCE", 0.05)
    late = Stubborn()
    server = serve(late, "127.0.0.1", 0, daemon_threads=True)
    serving = Background(server.serve_forever)
    with enter(server):
        name = late.name()
        server.shutdown(timeout=0)
        serving.result()
    assert not late.ended.is_set()
    record = logged.find("connection handler still runs")
    assert record.getMessage() == f"connection handler still runs in thread {name!r}; the server closes without it"
    assert record.levelname == "ERROR"
    assert logged.lines[-1] == "server closed"
    late.go_on.set()
    assert late.ended.wait(PATIENCE)
    assert server.statistics.counted == 0


@pytest.mark.parametrize(
    ("timeouts", "seconds"), [((None, 3), 3), ((5, 3), 3), ((3, 5), 3), ((5, None), 5), ((3, 3, 0), 0)], ids=str
)
def test_the_earliest_timeout_counts(timeouts: tuple[float | None, ...], seconds: float) -> None:
    """A later call may shorten the time, and not prolong it; a second after it, the server stops waiting."""

    async def scenario(world: Any) -> None:
        go_on = world.gate()

        async def handler(connection: Any) -> None:
            await go_on.wait()

        async with world.serve(handler, close_timeout=None, ping_interval=None) as server:
            await enter_scenario(world, server)
            start = world.now()
            for timeout in timeouts:
                server.close(timeout=timeout)
            await server.wait_closed()
            assert world.now() - start == pytest.approx(seconds + 1, abs=0.02)
            assert server.statistics.counted == 0
            server.close(timeout=1)
            await server.wait_closed()
            assert world.now() - start == pytest.approx(seconds + 1, abs=0.02)
            go_on.open()

    run_in_threads(scenario)


def test_a_serving_thread_that_is_busy(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of the user that makes connections doesn't return: the shutdown ends all the same."""
    monkeypatch.setattr(_shutdown, "PATIENCE", 0.05)
    busy, go_on = threading.Event(), threading.Event()

    def create_connection(*arguments: Any, **options: Any) -> ServerConnection:
        busy.set()
        assert go_on.wait(PATIENCE)
        return ServerConnection(*arguments, **options)

    server = serve(echo, "127.0.0.1", 0, create_connection=create_connection)
    serving = Background(server.serve_forever)
    with knock(server) as client:
        assert busy.wait(PATIENCE)
        server.shutdown(timeout=0.05)
        assert "server closed" in logged.lines
        go_on.set()
        assert client.read_until_eof().startswith(b"HTTP/1.1 503 ")
        serving.result()


# ---------------------------------------------------------------------------------------------------------------- forks


def in_a_child(check: Callable[[], object]) -> None:
    """Run something in a child process, which must succeed and end."""
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.alarm(int(PATIENCE))
            check()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("limits", [{}, {"max_connections": 5, "max_connections_per_host": 5}])
@pytest.mark.parametrize("closing", [False, True])
def test_the_servers_of_a_forked_process(closing: bool, limits: dict[str, Any]) -> None:
    """They have no connections, and their end doesn't concern the parent; another thread may have held their lock."""
    server = serve(echo, "127.0.0.1", 0, **limits)
    address = server.socket.getsockname()
    threads = [Background(server.serve_forever)]
    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        with server._ws_lock:
            held.set()
            released.wait(PATIENCE)

    def end() -> None:
        assert (server.connections, server.all_connections) == (set(), set())
        server.shutdown()
        if closing:
            server.serve_forever()
        assert server.fileno() == -1

    def go_on() -> None:
        thread = Background(server.serve_forever)
        with connect(f"ws://127.0.0.1:{address[1]}", proxy=None) as own:
            own.send("child")
            assert own.recv(timeout=PATIENCE) == "child"
            assert len(server.all_connections) <= 1
        server.shutdown()
        thread.result()

    with connect(f"ws://127.0.0.1:{address[1]}", proxy=None) as client:
        client.send("before")
        assert client.recv(timeout=PATIENCE) == "before"
        if closing:
            threads.append(Background(lambda: server.shutdown(close_connections=False)))
            with contextlib.suppress(OSError):
                while True:
                    socket.create_connection(address).close()
        threads.append(Background(hold))
        assert held.wait(PATIENCE)
        in_a_child(end)
        released.set()
        if not closing:
            # Its own connection may be accepted by either of the two.
            in_a_child(go_on)
        client.send("after")
        assert client.recv(timeout=PATIENCE) == "after"
    server.shutdown()
    for thread in threads:
        thread.result()


@pytest.mark.parametrize("limits", [{}, {"max_connections": 1}])
def test_a_server_after_a_fork(limits: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as good as new, unless it was closing."""
    server = serve(echo, "127.0.0.1", 0, **limits)
    monkeypatch.setattr(_serving, "_servers", weakref.WeakSet([server]))
    before = server._ws_lock, server._ws_registry, server._ws_shutdown
    _serving._after_fork()
    assert not {id(each) for each in before} & {id(server._ws_lock), id(server._ws_registry), id(server._ws_shutdown)}
    thread = Background(server.serve_forever)
    with connect(f"ws://127.0.0.1:{server.socket.getsockname()[1]}", proxy=None) as client:
        client.send("message")
        assert client.recv(timeout=PATIENCE) == "message"
    server.shutdown()
    thread.result()
    _serving._after_fork()
    server.shutdown()
    server.serve_forever()
    assert server.fileno() == -1
