"""Servers for threads on real sockets: threads, answers, options, connections that never open."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import queue
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from _kit import request, wire
from _kit.blocking import PATIENCE, Logged, Made, ask, echo, enter, knock, running, serving, waiting
from _kit.sockets import anonymous_tls
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.sync import _system, server
from websockets.sync.server import Server, ServerConnection, serve, unix_serve

needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="takes Unix sockets")


@pytest.fixture
def logged() -> Iterator[Logged]:
    with Logged() as logged:
        yield logged


# -------------------------------------------------------------------------------------------------------------- threads


def test_echo() -> None:
    with serving() as server, enter(server) as client:
        client.text("hello")
        assert client.read_frame().payload == b"hello"
        (connection,) = server.connections
        assert connection.server is server
        assert connection.remote_address == client.sock.getsockname()
        assert server.all_connections == {connection}
        port, other = server.socket.getsockname()[1], client.sock.getsockname()[1]
        assert repr(server) == f"<Server at 127.0.0.1:{port}, 1 connection>"
        ends = f"local 127.0.0.1:{port}, remote 127.0.0.1:{other}"
        assert repr(connection) == f"<ServerConnection OPEN, {ends}, path '/', id {connection.id}>"
        client.leave()
    assert repr(server) == "<Server, 0 connections, closing>"
    assert f"{connection!r}".startswith(f"<ServerConnection CLOSED, {ends}, ")


def test_a_handler_has_a_thread_with_a_name() -> None:
    seen: queue.Queue[threading.Thread] = queue.Queue()

    def handler(connection: ServerConnection) -> None:
        seen.put(threading.current_thread())
        waiting(connection)

    with serving(handler) as server, enter(server) as client:
        thread = seen.get(timeout=PATIENCE)
        host, port = client.sock.getsockname()
        assert thread.name == f"handler of {host}:{port}"
        assert not thread.daemon
        client.leave()


def test_daemon_threads() -> None:
    seen: queue.Queue[bool] = queue.Queue()
    with serving(lambda connection: seen.put(threading.current_thread().daemon), daemon_threads=True) as server:
        enter(server).answer_close()
        assert seen.get(timeout=PATIENCE)


@pytest.mark.scenario(1)
@pytest.mark.parametrize("tls", [False, True])
def test_silent_clients_cost_no_thread(tls: bool) -> None:
    """One thread accepts, and one reads from all of them."""
    contexts = anonymous_tls() if tls else (None, None)
    wanted = 100 if tls else 1000
    made = Made()
    before = threading.active_count()
    with (
        serving(create_connection=made, open_timeout=None, ssl=contexts[0]) as server,
        contextlib.ExitStack() as clients,
        most_descriptors(2 * wanted + 100) as room,
    ):
        # Both ends of a connection are in this process.
        count = (room - 100) // 2
        for _ in range(count):
            clients.enter_context(knock(server, contexts[1]))
            made.next()
        assert server.statistics.counted == count
        assert threading.active_count() <= before + 2
        with enter(server, tls=contexts[1]) as client:
            client.text("hello")
            assert client.read_frame().payload == b"hello"
            assert threading.active_count() <= before + 3
            client.leave()


@contextlib.contextmanager
def most_descriptors(count: int) -> Iterator[int]:
    """Have room for this number of descriptors, or for as many as the system allows; yield how many there are."""
    try:
        import resource
    except ImportError:
        yield count
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = [limit for limit in (count, hard) if limit != resource.RLIM_INFINITY]
    room = soft if soft == resource.RLIM_INFINITY else max(soft, min(limits))
    resource.setrlimit(resource.RLIMIT_NOFILE, (room, hard))
    try:
        yield count if room == resource.RLIM_INFINITY else min(room, count)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system has no room for threads of handlers."""
    start = _system.System.start_thread

    def start_thread(self: Any, function: Any, *, name: str, daemon: bool = True) -> Any:
        if name.startswith("handler"):
            raise RuntimeError("can't start new thread")
        return start(self, function, name=name, daemon=daemon)

    monkeypatch.setattr(_system.System, "start_thread", start_thread)


@pytest.mark.scenario(25)
@pytest.mark.usefixtures("no_threads")
def test_refused_requests_cost_no_thread() -> None:
    with serving(origins=["https://example.com"]) as server:
        assert ask(server, request(raw=b"Origin: https://other.example\r\n")).status == "403 Forbidden"
        assert ask(server, request(method="POST")).status == "405 Method Not Allowed"
        assert ask(server, b"garbage\r\n\r\n").status == "400 Bad Request"


@pytest.mark.usefixtures("no_threads")
def test_no_room_for_a_thread(logged: Logged) -> None:
    with serving() as server:
        client = enter(server)
        assert client.answer_close() == (1011, "")
        assert server.statistics.handler_failures == 1
    assert logged.find("starting the connection handler failed").levelname == "ERROR"


@pytest.mark.usefixtures("no_threads")
def test_no_room_for_a_thread_that_chooses_the_response() -> None:
    with serving(process_request=lambda *_: None) as server:
        assert ask(server, request()).status == "500 Internal Server Error"


def test_executor() -> None:
    seen: queue.Queue[str] = queue.Queue()

    def handler(connection: ServerConnection) -> None:
        seen.put(threading.current_thread().name)
        waiting(connection)

    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="pool") as executor:
        with serving(handler, executor=executor) as server:
            for _ in range(2):
                enter(server).leave()
                assert seen.get(timeout=PATIENCE) == "pool_0"
            executor.shutdown()
            assert enter(server).answer_close() == (1011, "")


@pytest.mark.parametrize("hook", [None, lambda *_: None], ids=["open", "opening"])
def test_executor_that_drops_handlers(hook: Any, logged: Logged) -> None:
    """It is shut down before they run; one of their connections is over by then."""
    submitted: queue.Queue[concurrent.futures.Future[None]] = queue.Queue()

    class Idle:
        def submit(self, function: Any) -> concurrent.futures.Future[None]:
            future: concurrent.futures.Future[None] = concurrent.futures.Future()
            submitted.put(future)
            return future

    made = Made()
    with serving(executor=Idle(), process_request=hook, create_connection=made) as server:
        with knock(server) as stays:
            stays.send(request())
            dropped = submitted.get(timeout=PATIENCE)
            made.next()
            with knock(server) as gone:
                gone.send(request())
                also_dropped = submitted.get(timeout=PATIENCE)
                made.next().abort()
            dropped.cancel()
            also_dropped.cancel()
            if hook is None:
                assert stays.read_until().startswith(b"HTTP/1.1 101 ")
                assert stays.answer_close() == (1011, "")
            else:
                assert stays.read_until_eof().startswith(b"HTTP/1.1 500 ")
    assert logged.find("starting the connection handler failed").levelname == "ERROR"
    assert server.statistics.handler_failures == 2
    assert server.statistics.counted == 0


def test_executor_that_cannot_run_handlers(logged: Logged) -> None:
    class Broken:
        def submit(self, function: Any) -> concurrent.futures.Future[None]:
            future: concurrent.futures.Future[None] = concurrent.futures.Future()
            future.set_exception(LookupError("can't be sent to another process"))
            return future

    with serving(executor=Broken()) as server:
        assert enter(server).answer_close() == (1011, "")
    exc_info = logged.find("starting the connection handler failed").exc_info
    assert exc_info is not None
    assert isinstance(exc_info[1], LookupError)


# ------------------------------------------------------------------------------------------------------------- handlers


def test_a_handler_that_returns() -> None:
    with serving(lambda connection: connection.send("bye")) as server, enter(server) as client:
        assert client.read_frame().payload == b"bye"
        assert client.answer_close() == (1000, "")


@pytest.mark.scenario(81)
def test_a_handler_that_fails(logged: Logged) -> None:
    with serving(lambda connection: 1 / 0) as server, enter(server) as client:
        assert client.answer_close() == (1011, "")
    record = logged.find("connection handler failed")
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert server.statistics.handler_failures == 1


def test_a_handler_whose_connection_ends(logged: Logged) -> None:
    with serving(lambda connection: connection.recv()) as server, enter(server) as client:
        client.leave()
        record = logged.find("connection handler ended: received 1000 (OK); then sent 1000 (OK)")
    assert record.levelname == "INFO"
    assert server.statistics.handler_failures == 0


def test_a_handler_that_turns_out_to_be_async(logged: Logged) -> None:
    async def handler(connection: ServerConnection) -> None: ...

    with serving(lambda connection: handler(connection)) as server, enter(server) as client:
        assert client.answer_close() == (1011, "")
    exc_info = logged.find("connection handler failed").exc_info
    assert exc_info is not None
    assert "returned something to await, of handler, and threads don't await" in str(exc_info[1])


def test_a_handler_that_ends_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: queue.Queue[threading.Thread] = queue.Queue()

    def handler(connection: ServerConnection) -> None:
        threads.put(threading.current_thread())
        raise SystemExit

    # pytest would report what the interpreter ignores.
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    with serving(handler) as server, enter(server) as client:
        assert client.answer_close() == (1011, "")
    threads.get_nowait().join()


def test_a_connection_with_its_own_way_of_closing() -> None:
    closed: queue.Queue[tuple[int, str]] = queue.Queue()

    class Mine(ServerConnection):
        def close(self, code: int = 1000, reason: str = "", **options: Any) -> None:
            closed.put((code, reason))
            super().close(code, "mine", **options)

    with serving(lambda connection: None, create_connection=Mine) as server, enter(server) as client:
        assert client.answer_close() == (1000, "mine")
    assert closed.get_nowait() == (1000, "")


# ---------------------------------------------------------------------------------------------------------------- hooks


def test_hooks_run_in_the_thread_of_the_handler_in_their_order() -> None:
    seen: list[tuple[str, str]] = []

    def note(what: str) -> None:
        seen.append((what, threading.current_thread().name.partition(" ")[0]))

    def process_request(connection: ServerConnection, request: Request) -> None:
        note("process_request")

    def select_subprotocol(connection: ServerConnection, offered: Any) -> Any:
        note("select_subprotocol")
        return offered[1]

    def process_response(connection: ServerConnection, request: Request, response: Response) -> None:
        note("process_response")
        response.headers["X-Seen"] = "yes"

    def handler(connection: ServerConnection) -> None:
        note("handler")

    options = {"process_request": process_request, "process_response": process_response}
    with serving(handler, select_subprotocol=select_subprotocol, **options) as server, knock(server) as client:
        client.send(request(raw=b"Sec-WebSocket-Protocol: a, b\r\n"))
        head = client.read_until()
        client.answer_close()
    assert b"\r\nSec-WebSocket-Protocol: b\r\n" in head
    assert b"\r\nX-Seen: yes\r\n" in head
    assert seen == [
        (name, "handler") for name in ("process_request", "select_subprotocol", "process_response", "handler")
    ]


def test_other_clients_are_served_while_a_hook_waits() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def process_request(connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/slow":
            asked.set()
            assert go_on.wait(PATIENCE)
        return None

    with serving(process_request=process_request) as server, knock(server) as slow:
        # Data after the request waits until there is a response.
        slow.send(request("/slow") + wire.text("early", mask=True))
        assert asked.wait(PATIENCE)
        with enter(server) as quick:
            quick.text("hello")
            assert quick.read_frame().payload == b"hello"
            quick.leave()
        go_on.set()
        assert slow.read_until().startswith(b"HTTP/1.1 101 ")
        assert slow.read_frame().payload == b"early"
        slow.leave()


def test_a_response_of_a_hook() -> None:
    def process_request(connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(200, "OK\n") if request.path == "/health" else None

    with serving(process_request=process_request) as server:
        answer = ask(server, request("/health"))
        assert (answer.status, answer.body) == ("200 OK", b"OK\n")
        assert server.statistics.refused == {"application": 1}


@pytest.mark.scenario(27)
def test_a_hook_that_fails(logged: Logged) -> None:
    with serving(process_request=lambda *_: 1 / 0) as server:
        assert ask(server, request()).status == "500 Internal Server Error"
    assert logged.find("process_request failed").levelname == "ERROR"


def test_a_client_that_leaves_while_a_hook_waits(logged: Logged) -> None:
    asked, go_on = threading.Event(), threading.Event()
    made = Made()

    def process_request(connection: ServerConnection, request: Request) -> None:
        asked.set()
        assert go_on.wait(PATIENCE)

    with serving(process_request=process_request, create_connection=made) as server:
        client = knock(server)
        client.send(request())
        assert asked.wait(PATIENCE)
        client.reset()
        made.next().abort()
        go_on.set()
    assert server.statistics.opened == 0
    assert server.statistics.counted == 0


# ------------------------------------------------------------------------------------------ connections that never open


@pytest.mark.scenario(1, 2)
@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\n"])
def test_too_slow(data: bytes, logged: Logged) -> None:
    with serving(open_timeout=0.05) as server, knock(server) as client:
        with contextlib.suppress(ConnectionError):
            client.send(data)
            assert client.read_until_eof() == b""
        assert logged.find("opening handshake failed: timed out during opening handshake").levelname == "INFO"
    assert server.statistics.refused == {"timeout": 1}


@pytest.mark.parametrize("tls", [False, True])
def test_gone_before_the_request(tls: bool) -> None:
    contexts = anonymous_tls() if tls else (None, None)
    with Logged(level=logging.DEBUG) as logged, serving(ssl=contexts[0]) as server:
        knock(server, contexts[1]).close()
        logged.find("= connection is CLOSED")
    assert server.statistics.refused == {"client gone": 1}
    assert server.statistics.counted == 0


def test_a_connection_that_cannot_be_made(logged: Logged) -> None:
    def create_connection(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("not today")

    with serving(create_connection=create_connection) as server, knock(server) as client:
        assert client.read_until_eof() == b""
        assert logged.find("creating a connection failed").levelname == "ERROR"
    assert server.statistics.refused == {"failure": 1}


def test_a_connection_that_is_over_when_it_is_made() -> None:
    def create_connection(*arguments: Any, **options: Any) -> ServerConnection:
        connection = ServerConnection(*arguments, **options)
        connection.abort()
        return connection

    with serving(create_connection=create_connection) as server, knock(server) as client:
        assert client.read_until_eof() == b""
    assert server.statistics.counted == 0


class Interrupted(BaseException):
    """What a signal handler raises."""


def test_interrupted_while_a_connection_is_made() -> None:
    def create_connection(*arguments: Any, **options: Any) -> Any:
        raise Interrupted

    with pytest.raises(Interrupted):
        with serving(create_connection=create_connection) as server, knock(server) as client:
            assert client.read_until_eof() == b""


def test_interrupted_while_a_connection_enters() -> None:
    class Mine(ServerConnection):
        def _ws_hand_to_steward(self, open_timeout: float | None) -> None:
            raise Interrupted

    with pytest.raises(Interrupted):
        with serving(create_connection=Mine) as server, knock(server) as client:
            assert client.read_until_eof() == b""


def test_what_creates_connections_returns_something_else(logged: Logged) -> None:
    with serving(create_connection=lambda *_, **__: 5) as server, knock(server) as client:
        assert client.read_until_eof() == b""
    exc_info = logged.find("creating a connection failed").exc_info
    assert exc_info is not None
    assert str(exc_info[1]) == "what creates connections returned 5"


@pytest.mark.scenario(25)
def test_no_room() -> None:
    with serving(max_connections=1) as server, enter(server) as first:
        answer = ask(server, request())
        assert answer.status == "503 Service Unavailable"
        assert "Retry-After" in answer.headers
        assert server.statistics.counted == 1
        first.leave()


def test_no_room_for_this_host() -> None:
    with serving(max_connections_per_host=1) as server, enter(server) as first:
        answer = ask(server, request())
        assert b"too many connections from this host" in answer.body
        first.leave()


def test_no_room_to_wait_for_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websockets._rules.capacity.WAITING_LIMIT", 0)
    with serving(max_connections=1) as server, enter(server) as first:
        with knock(server) as client, contextlib.suppress(ConnectionResetError):
            assert client.read_until_eof() == b""
        first.leave()
    assert server.statistics.refused == {"too many connections to be told": 1}


# ------------------------------------------------------------------------------------------------------------------ TLS


def test_tls() -> None:
    context, trusting = anonymous_tls()
    with serving(ssl=context) as server, enter(server, tls=trusting) as client:
        client.text("hello")
        assert client.read_frame().payload == b"hello"
        client.leave()


def test_a_client_that_does_not_speak_tls(logged: Logged) -> None:
    context, _ = anonymous_tls()
    with serving(ssl=context) as server, knock(server) as client:
        client.send(request())
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in client.read_until_eof()
        record = logged.find("connection from ")
        assert record.levelname == "INFO"
        assert re.match(
            r"connection from 127\.0\.0\.1:\d+ closed: TLS handshake failed: .*HTTP_REQUEST", record.getMessage()
        )
    assert server.statistics.refused == {"TLS handshake failed": 1}


def test_a_client_that_leaves_during_the_tls_handshake(logged: Logged) -> None:
    context, _ = anonymous_tls()
    with serving(ssl=context) as server:
        with knock(server):
            pass
        text = logged.find("connection from ").getMessage()
        expected = "TLS handshake failed: the peer ended the connection during the TLS handshake"
        assert re.fullmatch(rf"connection from 127\.0\.0\.1:\d+ closed: {expected}", text)


def test_a_client_that_is_too_slow_for_tls(logged: Logged) -> None:
    context, _ = anonymous_tls()
    with serving(ssl=context, open_timeout=0.05) as server, knock(server) as client:
        with contextlib.suppress(ConnectionResetError):
            assert client.read_until_eof() == b""
        logged.find("opening handshake failed: timed out during opening handshake")


# ----------------------------------------------------------------------------------------------- serve(), and its names


@needs_unix
def test_unix(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with running(unix_serve(echo, path, compression=None)) as server, enter(server) as client:
        client.text("hello")
        assert client.read_frame().payload == b"hello"
        assert server.connections.pop().remote_address == ""
        client.leave()
    assert not path.exists()


def test_a_listening_socket_of_the_caller() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with running(serve(echo, sock=listening)) as server, enter(server) as client:
            assert server.socket is listening
            assert server.fileno() == listening.fileno()
            client.leave()
        assert server.fileno() == -1


def test_listening_is_logged(logged: Logged) -> None:
    with serve(echo, "127.0.0.1", 0) as server:
        port = server.socket.getsockname()[1]
    assert logged.lines == [
        f"server listening on 127.0.0.1:{port}",
        "server closing",
        "server closed",
    ]


def test_a_server_of_its_own() -> None:
    """Without ``serve()``, the handler gets sockets."""

    def handler(sock: socket.socket, address: Any) -> None:
        with sock:
            assert address == sock.getpeername()
            sock.sendall(b"hello")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        with running(Server(listening, handler)) as server, knock(server) as client:
            assert client.read_until_eof() == b"hello"


def test_names_of_old() -> None:
    with pytest.warns(DeprecationWarning, match="WebSocketServer was renamed to Server"):
        assert getattr(server, "WebSocketServer") is Server  # noqa: B009
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        getattr(server, "nonsense")  # noqa: B009


def test_ssl_by_its_name_of_old() -> None:
    context, trusting = anonymous_tls()
    with pytest.warns(DeprecationWarning, match="ssl_context was renamed to ssl"):
        made = serve(echo, "127.0.0.1", 0, ssl_context=context)
    with running(made), enter(made, tls=trusting) as client:
        client.leave()


def test_the_state_of_a_connection_shows() -> None:
    with serving(waiting) as server, enter(server) as client:
        (connection,) = server.connections
        client.leave()
        assert connection.wait_closed(PATIENCE)
        assert (connection.state, connection.close_code) == (State.CLOSED, 1000)


# ----------------------------------------------------------------------------------------------- the method handshake()


def test_a_connection_with_its_own_handshake() -> None:
    calls: list[Any] = []

    class Mine(ServerConnection):
        def handshake(self, *arguments: Any, **options: Any) -> None:
            calls.append(arguments)
            super().handshake(*arguments, **options)

    with serving(create_connection=Mine, server_header="test", open_timeout=9) as server, enter(server) as client:
        client.leave()
        assert ask(server, request(method="POST")).status == "405 Method Not Allowed"
    assert calls == [(None, None, "test", 9)] * 2


def test_a_handshake_that_fails(logged: Logged) -> None:
    class Mine(ServerConnection):
        def handshake(self, *arguments: Any, **options: Any) -> None:
            raise LookupError("not this one")

    with serving(create_connection=Mine) as server:
        assert ask(server, request()).status == "500 Internal Server Error"
    assert logged.find("opening handshake failed").exc_info is not None
    assert server.statistics.counted == 0
