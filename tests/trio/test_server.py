"""Servers on trio: starting, handlers, hooks, limits, TLS, the PROXY protocol."""

from __future__ import annotations

import functools
import logging
import socket
from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from _kit import proxy_header, wire
from _kit.certificates import client_context, server_context
from _kit.logs import told
from _kit.on_trio import Codes, ask, echo, on_network, opened, port_of, reach, serving, uri_of
from _kit.trio_network import TrioNetwork
from websockets._codec.proxy_protocol import TrustedProxies
from websockets._session.registry import Registry
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.trio._arrival import Arrival
from websockets.trio.client import connect
from websockets.trio.server import Server, ServerConnection, basic_auth, serve


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [told(record) for record in caplog.records if record.levelno == level]


# ------------------------------------------------------------------------------------------------------------- starting


@on_network
async def test_start(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(serve, echo, 0, host="localhost"))
        assert isinstance(server, Server)
        assert isinstance(server, trio.abc.AsyncResource)
        assert messages(caplog) == [f"server listening on 127.0.0.1:{port_of(server)}"]
        async with connect(uri_of(server)) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
            (connection,) = server.connections
            assert isinstance(connection, ServerConnection)
            assert connection.server is server
            assert server.connections is not server.connections
            assert (server.statistics.open, server.statistics.counted) == (1, 1)
            assert repr(server) == f"<Server at 127.0.0.1:{port_of(server)}, 1 connection>"
            assert f"{connection!r}".startswith(f"<ServerConnection OPEN, local 127.0.0.1:{port_of(server)}, remote ")
        await server.aclose()
        assert repr(server) == "<Server, 0 connections, closing>"
        assert messages(caplog)[-2:] == ["server closing", "server closed"]
        assert server.connections == set()


@on_network
async def test_listeners_are_those_that_were_given(network: TrioNetwork) -> None:
    listeners = await trio.open_tcp_listeners(0, host="localhost")
    async with serving(listeners=listeners) as server:
        assert server.listeners is listeners
        async with connect(uri_of(server)):
            pass


@on_network
async def test_a_listener_that_breaks(network: TrioNetwork) -> None:
    class Broken(trio.abc.Listener[Any]):
        closed = False

        async def accept(self) -> Any:
            await trio.sleep(1)
            raise RuntimeError("broken")

        async def aclose(self) -> None:
            self.closed = True
            await trio.lowlevel.checkpoint()

    broken = Broken()
    with pytest.raises(ExceptionGroup):
        await serve(echo, listeners=[broken])
    assert broken.closed


@on_network
async def test_sockets_are_no_listeners(network: TrioNetwork) -> None:
    with socket.socket() as sock, pytest.raises(TypeError, match="listeners must be a list of listeners of trio"):
        await serve(echo, listeners=[sock])  # type: ignore[list-item]


@on_network
async def test_listener_without_an_address(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    class Silent(trio.abc.Listener[Any]):
        async def accept(self) -> Any:
            await trio.sleep_forever()

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    caplog.set_level(logging.INFO, "websockets.server")
    (listener,) = await trio.open_tcp_listeners(0, host="localhost")
    secured = trio.SSLListener(listener, server_context())
    async with serving(listeners=[Silent(), secured]):
        pass
    port = listener.socket.getsockname()[1]
    assert messages(caplog)[:2] == [
        "server listening on an unknown address",
        f"server listening on 127.0.0.1:{port}",
    ]


@on_network
async def test_port_in_use(network: TrioNetwork) -> None:
    async with serving() as server:
        with pytest.raises(OSError, match="already in use"):
            await serve(echo, port_of(server), host="localhost")


@on_network
async def test_server_alone(network: TrioNetwork) -> None:
    """The class by itself, with the handler."""
    listeners = await trio.open_tcp_listeners(0, host="localhost")
    async with Server(listeners, echo) as server, trio.open_nursery() as nursery:
        assert server.logger.name == "websockets.server"
        await nursery.start(server.serve_forever)
        async with connect(uri_of(server)) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
        with pytest.raises(RuntimeError, match=r"^the server has already been started, or is closed$"):
            await server.serve_forever()
        await server.aclose()


@on_network
async def test_server_that_never_starts(network: TrioNetwork) -> None:
    listeners: Sequence[Any] = await trio.open_tcp_listeners(0, host="localhost")
    async with Server(listeners, echo, logging.getLogger("mine")) as server:
        assert server.logger.name == "mine"
    assert listeners[0].socket.fileno() == -1
    with pytest.raises(RuntimeError, match=r"^the server has already been started, or is closed$"):
        await server.serve_forever()


# ------------------------------------------------------------------------------------------------------------- handlers


@on_network
async def test_handler_returns(network: TrioNetwork) -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.send("hello")

    async with serving(handler) as server, connect(uri_of(server)) as websocket:
        assert [message async for message in websocket] == ["hello"]
        assert websocket.close_code == 1000


@pytest.mark.parametrize("error", [ValueError("mine"), ExceptionGroup("mine", [ValueError()])], ids=repr)
@on_network
async def test_handler_fails(network: TrioNetwork, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(websocket: ServerConnection) -> None:
        raise error

    async with serving(handler) as server:
        async with connect(uri_of(server)) as websocket:
            with pytest.raises(ConnectionClosedError, match="1011"):
                await websocket.recv()
        assert server.statistics.handler_failures == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().startswith("connection handler failed: ")
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@on_network
async def test_handler_that_is_not_async(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    def handler(websocket: ServerConnection) -> Any:
        return 5

    async with serving(handler) as server, connect(uri_of(server)) as websocket:
        with pytest.raises(ConnectionClosedError, match="1011"):
            await websocket.recv()
    assert messages(caplog, logging.ERROR) == ["connection handler failed"]


@on_network
async def test_disconnection_is_no_fault(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")

    async def handler(websocket: ServerConnection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(websocket.recv)

    async with serving(handler) as server, connect(uri_of(server)):
        pass
    assert "connection handler ended: received 1000 (OK); then sent 1000 (OK)" in messages(caplog)
    assert not messages(caplog, logging.ERROR)


@on_network
async def test_cancelling_the_server_ends_handlers(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    """Clients are told without waiting; failures of a handler on the way are logged, and don't end anything else."""
    ended: list[str] = []

    async def handler(websocket: ServerConnection) -> None:
        async def fail() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("mine")

        try:
            async with trio.open_nursery() as nursery:
                if websocket.request is not None and websocket.request.path == "/fail":
                    nursery.start_soon(fail)
                await trio.sleep_forever()
        finally:
            ended.append("handler")

    async with trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(serve, handler, 0, host="localhost"))
        one, two = await opened(network, server), await reach(network, server)
        await two.send(wire.request("/fail"))
        assert (await two.read_until()).startswith(b"HTTP/1.1 101 ")
        nursery.cancel_scope.cancel()
    assert ended == ["handler"] * 2
    for peer in one, two:
        assert (await peer.read_frame()).payload[:2] == (1001).to_bytes(2, "big")
        assert await peer.read_until_eof() == b""
    assert messages(caplog, logging.ERROR) == ["connection handler failed"]


@on_network
async def test_interrupts_leave_the_server(network: TrioNetwork) -> None:
    async def handler(websocket: ServerConnection) -> None:
        raise SystemExit(3)

    async def fail(websocket: ServerConnection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handler, websocket)

    for each in handler, fail:
        with pytest.raises(BaseExceptionGroup) as raised:  # noqa: PT012
            async with serving(each) as server:
                await opened(network, server)
                await trio.sleep_forever()
        assert raised.value.subgroup(SystemExit) is not None


# ---------------------------------------------------------------------------------------------------------------- hooks


@on_network
async def test_hooks(network: TrioNetwork) -> None:
    async def process_request(connection: ServerConnection, request: Request) -> Response | None:
        await trio.sleep(1)
        return None if request.path == "/" else connection.respond(403, "no")

    def process_response(connection: ServerConnection, request: Request, response: Response) -> None:
        response.headers["X-Mine"] = "yes"

    async def select_subprotocol(connection: ServerConnection, offered: Sequence[Any]) -> Any:
        await trio.sleep(1)
        return offered[-1]

    async with serving(
        process_request=process_request, process_response=process_response, select_subprotocol=select_subprotocol
    ) as server:
        async with connect(uri_of(server), subprotocols=["a", "b"]) as websocket:  # type: ignore[list-item]
            assert trio.current_time() == 2
            assert websocket.subprotocol == "b"
            assert websocket.response is not None
            assert websocket.response.headers["X-Mine"] == "yes"
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
        with pytest.raises(InvalidStatus, match="HTTP 403"):
            await connect(uri_of(server, "/other")).__aenter__()
        assert server.statistics.refused == {"application": 1}


@on_network
async def test_hook_that_fails(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    async def process_request(connection: ServerConnection, request: Request) -> None:
        raise ValueError("mine")

    async with serving(process_request=process_request) as server:
        with pytest.raises(InvalidStatus, match="HTTP 500"):
            await connect(uri_of(server)).__aenter__()
    assert messages(caplog, logging.ERROR) == ["process_request failed"]


@on_network
async def test_nothing_is_read_while_hooks_run(network: TrioNetwork) -> None:
    async def process_request(connection: ServerConnection, request: Request) -> None:
        await trio.sleep(1)

    async with serving(process_request=process_request) as server:
        peer = await reach(network, server)
        await peer.send(wire.request() + wire.text("hello", mask=True))
        assert (await peer.read_until()).startswith(b"HTTP/1.1 101 ")
        assert (await peer.read_frame()).payload == b"hello"
        peer.close()


@on_network
async def test_client_that_leaves_while_hooks_run(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    """The hook is cancelled when a response can't be sent any more."""
    caplog.set_level(logging.INFO, "websockets.server")
    asked: list[str] = []

    async def process_request(connection: ServerConnection, request: Request) -> None:
        try:
            await trio.sleep_forever()
        finally:
            asked.append(connection.state.name)

    async with serving(process_request=process_request, open_timeout=5) as server:
        peer = await reach(network, server)
        await peer.send(wire.request())
        assert await peer.read_until_eof() == b""
        assert asked == ["CLOSED"]
        assert trio.current_time() == 5
        await trio.testing.wait_all_tasks_blocked()
        assert server.statistics.refused == {"timeout": 1}
    assert "opening handshake failed: timed out during opening handshake" in messages(caplog)


@on_network
async def test_basic_auth(network: TrioNetwork) -> None:
    async def check(user: str, password: str) -> bool:
        await trio.sleep(1)
        return (user, password) == ("me", "secret")

    async def handler(websocket: ServerConnection) -> None:
        await websocket.send(websocket.username)

    async with serving(handler, process_request=basic_auth("here", check_credentials=check)) as server:
        port = port_of(server)
        async with connect(f"ws://me:secret@localhost:{port}/") as websocket:
            assert await websocket.recv() == "me"
        with pytest.raises(InvalidStatus, match="HTTP 401"):
            await connect(f"ws://me:wrong@localhost:{port}/").__aenter__()


# --------------------------------------------------------------------------------------------------------------- limits


@on_network
async def test_open_timeout(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with serving(open_timeout=3) as server:
        peer = await reach(network, server)
        assert await peer.read_until_eof() == b""
        assert trio.current_time() == 3
        await trio.testing.wait_all_tasks_blocked()
        assert server.statistics.refused == {"timeout": 1}
    assert "opening handshake failed: timed out during opening handshake" in messages(caplog)


@on_network
async def test_garbage(network: TrioNetwork) -> None:
    async with serving() as server:
        assert (await ask(network, server, b"garbage\r\n\r\n")).startswith("HTTP/1.1 400 ")
        assert (await ask(network, server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).startswith("HTTP/1.1 426 ")
        peer = await reach(network, server)
        peer.reset()
        await trio.testing.wait_all_tasks_blocked()
        assert server.statistics.counted == 0


@on_network
async def test_max_connections(network: TrioNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("websockets._rules.capacity.WAITING_LIMIT", 1)
    async with serving(max_connections=1) as server:
        async with connect(uri_of(server)):
            answer = await ask(network, server, wire.request())
            assert answer.startswith("HTTP/1.1 503 ")
            assert "\r\nRetry-After: 5\r\n" in answer
            await trio.testing.wait_all_tasks_blocked()
            waiting = await reach(network, server)
            await trio.testing.wait_all_tasks_blocked()
            # Beyond those that wait for an answer, there is none.
            crowded = await reach(network, server)
            assert await crowded.read_until_eof() == b""
        # There is room again.
        await trio.testing.wait_all_tasks_blocked()
        await waiting.send(wire.request())
        assert (await waiting.read_until()).startswith(b"HTTP/1.1 101 ")
        waiting.reset()
        await trio.testing.wait_all_tasks_blocked()
        assert server.statistics.counted == 0


@on_network
async def test_connections_that_cannot_be_made(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ValueError("mine")

    for create in fail, lambda *args, **kwargs: 5:
        async with serving(create_connection=create) as server:
            peer = await reach(network, server)
            assert await peer.read_until_eof() == b""
            assert server.statistics.refused == {"failure": 1}
    assert messages(caplog, logging.ERROR) == ["creating a connection failed"] * 2


@on_network
async def test_class_of_connections(network: TrioNetwork) -> None:
    class Mine(ServerConnection):
        def _ws_start(self, open_timeout: float | None = None) -> None:
            if self.remote_address[0] == "127.0.0.9":
                raise ValueError("mine")
            super()._ws_start(open_timeout)

    async with serving(create_connection=Mine, idle_timeout=100) as server:
        # An error in one connection is logged, and ends nothing else.
        sock = await network.open("localhost", port_of(server), ("127.0.0.9", 0))
        await trio.sleep(1)
        assert sock.recv(10) == b""
        sock.close()
        async with connect(uri_of(server)):
            (connection,) = server.connections
            assert type(connection) is Mine


# ------------------------------------------------------------------------------------------------------------------ TLS


@on_network
async def test_tls_that_fails(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with serving(ssl=server_context(), open_timeout=3) as server:
        garbage, silent, gone = [await reach(network, server) for _ in range(3)]
        gone.reset()
        await garbage.send(wire.request())
        await garbage.read_until_eof()
        assert await silent.read_until_eof() == b""
        assert trio.current_time() == 3
        await trio.testing.wait_all_tasks_blocked()
        assert server.statistics.refused == {"TLS handshake failed": 2, "client gone": 1}
        async with connect(uri_of(server, scheme="wss"), ssl=client_context()) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
    lines = [message for message in messages(caplog) if "TLS" in message]
    assert len(lines) == 2
    assert lines[1].endswith(" closed: TLS handshake failed: it takes longer than 3 s")


@on_network
async def test_tls_on_streams_of_other_kinds(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    lost, unread = trio.testing.memory_stream_pair()

    streams = [lost, theirs]

    class Twice(trio.abc.Listener[Any]):
        async def accept(self) -> Any:
            return streams.pop() if streams else await trio.sleep_forever()

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    await unread.send_all(b"garbage")
    async with serving(listeners=[Twice()], ssl=server_context()) as server:
        async with connect("wss://localhost/", stream=ours, ssl=client_context()) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
        assert server.statistics.refused == {"TLS handshake failed": 1}


# --------------------------------------------------------------------------------------------------- the PROXY protocol

SOURCE, DESTINATION = ("192.0.2.1", 1000), ("192.0.2.2", 2000)


@on_network
async def test_proxy_protocol(network: TrioNetwork) -> None:
    async def handler(websocket: ServerConnection) -> None:
        await websocket.send(f"{websocket.remote_address} {websocket.local_address}")

    async with serving(handler, proxy_protocol=["127.0.0.1"]) as server:
        peer = await reach(network, server)
        await peer.send(proxy_header.line(SOURCE, DESTINATION) + wire.request())
        assert (await peer.read_until()).startswith(b"HTTP/1.1 101 ")
        assert (await peer.read_frame()).payload == f"{SOURCE} {DESTINATION}".encode()
        peer.reset()


@on_network
async def test_proxy_protocol_before_tls(network: TrioNetwork) -> None:
    async with serving(proxy_protocol=["127.0.0.1"], ssl=server_context(), open_timeout=None) as server:
        stream = await trio.open_tcp_stream("localhost", port_of(server))
        await stream.send_all(proxy_header.version_2(SOURCE, DESTINATION))
        async with connect("wss://localhost/", stream=stream, ssl=client_context()) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
            (connection,) = server.connections
            assert connection.remote_address == SOURCE


@on_network
async def test_refused_by_the_proxy_protocol(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with serving(proxy_protocol=["127.0.0.1"], open_timeout=3) as server:
        wrong, silent, gone = [await reach(network, server) for _ in range(3)]
        await wrong.send(wire.request())
        gone.eof()
        with pytest.raises(ConnectionResetError):
            await wrong.read_until_eof()
        assert await gone.read_until_eof() == b""
        assert await silent.read_until_eof() == b""
        assert trio.current_time() == 3
        stranger = await network.open("localhost", port_of(server), ("127.0.0.9", 0))
        reset = await reach(network, server)
        reset.reset()
        await trio.sleep(1)
        assert stranger.recv(10) == b""
        stranger.close()
        assert server.statistics.refused == {
            "invalid PROXY header": 1,
            "client gone": 2,
            "timeout": 1,
            "not a trusted proxy": 1,
        }
        assert server.statistics.counted == 0
    assert any("no complete PROXY protocol header within 3 s" in message for message in messages(caplog))


@on_network
async def test_peer_that_has_gone(network: TrioNetwork) -> None:
    """A proxy may check whether a server is there, and hang up before it is accepted."""
    registry: Registry[Any, Any] = Registry()
    proxies = TrustedProxies.of(["127.0.0.1"])
    arrival = Arrival(trio.SocketStream(trio.socket.socket()), registry, proxies, logging.getLogger("mine"))
    assert not await arrival.arrive(None, None)
    assert registry.tally.snapshot(0, 0).refused == {"client gone": 1}


# ------------------------------------------------------------------------------------------------------------- shutdown


@on_network
async def test_shutdown(network: TrioNetwork) -> None:
    gate = trio.Event()

    async def process_request(connection: ServerConnection, request: Request) -> None:
        if request.path == "/wait":
            await gate.wait()

    async with trio.open_nursery() as nursery:
        codes = Codes()
        server = await nursery.start(
            functools.partial(serve, codes, 0, host="localhost", process_request=process_request)
        )
        websocket = await opened(network, server)
        silent = await reach(network, server)
        asking = await reach(network, server)
        await asking.send(wire.request("/wait"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(server.aclose)
        nursery.start_soon(server.aclose)
        await trio.testing.wait_all_tasks_blocked()
        # Nobody is accepted any more.
        with pytest.raises(ConnectionRefusedError):
            await reach(network, server)
        assert (await silent.read_until()).startswith(b"HTTP/1.1 503 ")
        frame = await websocket.read_frame()
        assert (frame.opcode, frame.payload) == (8, (1001).to_bytes(2, "big"))
        gate.set()
        assert (await asking.read_until()).startswith(b"HTTP/1.1 503 ")
        await websocket.send(wire.close(1001, mask=True))
        assert await websocket.read_until_eof() == b""
        silent.close()
        asking.close()
        websocket.close()
        await server.aclose()
        assert codes.seen == [1001]


@on_network
async def test_code_and_reason(network: TrioNetwork) -> None:
    async with serving() as server:
        async with connect(uri_of(server)) as websocket:
            cases: list[dict[str, Any]] = [{"code": 1005}, {"reason": "x" * 200}]
            for wrong in cases:
                with pytest.raises(Exception, match=r"invalid|too long|1005|125"):
                    await server.aclose(**wrong)
            with pytest.raises(ValueError, match="timeout must be"):
                await server.aclose(timeout=-1)
            assert websocket.state is State.OPEN
            await server.aclose(code=1012, reason="restart")
            await websocket.wait_closed()
            assert (websocket.close_code, websocket.close_reason) == (1012, "restart")


@on_network
async def test_connections_may_end_by_themselves(network: TrioNetwork) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(functools.partial(serve, echo, 0, host="localhost"))
        async with connect(uri_of(server)) as websocket:
            nursery.start_soon(server.aclose, False)
            await trio.sleep(60)
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
        await server.aclose()


@on_network
async def test_accepted_just_before(network: TrioNetwork) -> None:
    def create(*args: Any, **kwargs: Any) -> ServerConnection:
        args[3]._ws_say_farewell(1001, "", True)
        return ServerConnection(*args, **kwargs)

    async with serving(create_connection=create) as server:
        peer = await reach(network, server)
        assert (await peer.read_until()).startswith(b"HTTP/1.1 503 ")
        peer.close()


async def never_end(websocket: ServerConnection) -> None:
    await trio.sleep_forever()


@on_network
async def test_limit(network: TrioNetwork) -> None:
    async with serving(never_end) as server:
        peer = await opened(network, server)
        await server.aclose(timeout=5)
        assert trio.current_time() == 5
        assert (await peer.read_frame()).payload == (1001).to_bytes(2, "big")
        await server.aclose(timeout=5)
        assert trio.current_time() == 5


@on_network
async def test_shutdown_that_is_cancelled(network: TrioNetwork) -> None:
    async with serving(never_end) as server:
        peer = await opened(network, server)
        with trio.move_on_after(2) as scope:
            await server.aclose()
        assert scope.cancelled_caught
        await server.aclose()
        assert trio.current_time() == 2
        assert (await peer.read_frame()).payload == (1001).to_bytes(2, "big")


@on_network
async def test_a_handler_that_closes_its_server(network: TrioNetwork) -> None:
    """It would wait for itself; a limit ends that."""

    async def handler(websocket: ServerConnection) -> None:
        await websocket.server.aclose(timeout=1)

    async with serving(handler) as server:
        await opened(network, server)
        await trio.sleep(5)
        with pytest.raises(ConnectionRefusedError):
            await reach(network, server)


@on_network
async def test_shutdown_during_the_tls_handshake(network: TrioNetwork) -> None:
    async with serving(ssl=server_context()) as server:
        peer = await reach(network, server)
        await trio.testing.wait_all_tasks_blocked()
        await server.aclose()
        assert trio.current_time() == 0
        assert await peer.read_until_eof() == b""
        assert server.statistics.refused == {"server is shutting down": 1}


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")
@on_network
async def test_proxies_at_unix_sockets(network: TrioNetwork) -> None:
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind("/run/server")
    sock.listen()
    async with serving(listeners=[trio.SocketListener(sock)], proxy_protocol=["unix:"]) as server:
        stream = await trio.open_unix_socket("/run/server")
        await stream.send_all(proxy_header.line(SOURCE, DESTINATION))
        async with connect("ws://localhost/", stream=stream):
            (connection,) = server.connections
            assert connection.remote_address == SOURCE
