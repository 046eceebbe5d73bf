"""Clients on trio: the context manager, exceptions and cancellation, time limits, streams, redirects."""

from __future__ import annotations

import functools
import gc
import logging
import socket
import weakref
from typing import Any

import pytest
import trio
import trio.testing

from _kit import wire
from _kit.certificates import client_context, server_context
from _kit.on_trio import Codes, answer_opening, echo, on_network, port_of, serving, uri_of
from _kit.trio_network import TrioNetwork
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus, InvalidURI
from websockets.protocol import State
from websockets.trio.client import ClientConnection, connect, process_exception, unix_connect
from websockets.trio.server import ServerConnection, serve


@on_network
async def test_context_manager(network: TrioNetwork) -> None:
    async with serving() as server:
        connecting = connect(uri_of(server))
        async with connecting as websocket:
            assert connecting.connection is websocket
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
        assert (websocket.close_code, websocket.state) == (1000, State.CLOSED)
        assert connecting.connection is None
        # The object may be used again.
        async with connecting as another:
            assert another is not websocket


@on_network
async def test_not_awaitable(network: TrioNetwork) -> None:
    connecting: Any = connect("ws://localhost/")
    with pytest.raises(TypeError, match="object connect can't be used in 'await' expression|can't be awaited"):
        await connecting


@on_network
async def test_not_reentrant(network: TrioNetwork) -> None:
    async with serving() as server:
        connecting = connect(uri_of(server))
        async with connecting as websocket:
            with pytest.raises(RuntimeError, match=r"^connect\(\) isn't reentrant$"):
                await connecting.__aenter__()
            assert connecting.connection is websocket


@on_network
async def test_left_without_being_entered(network: TrioNetwork) -> None:
    with pytest.raises(AttributeError, match=r"left without having been entered$"):
        await connect("ws://localhost/").__aexit__(None, None, None)


def test_process_exception_is_there() -> None:
    assert process_exception(OSError()) is None


# ----------------------------------------------------------------------------------------------------------- exceptions


@pytest.mark.parametrize(
    "error", [ValueError("mine"), ExceptionGroup("mine", [ValueError()]), KeyboardInterrupt()], ids=repr
)
@on_network
async def test_exceptions_leave_as_they_are(network: TrioNetwork, error: BaseException) -> None:
    async with serving(codes := Codes()) as server:
        with pytest.raises(BaseException) as raised:  # noqa: PT011
            async with connect(uri_of(server)):
                raise error
        assert raised.value is error
        assert error.__cause__ is error.__context__ is None
    assert codes.seen == [1011]


@on_network
async def test_group_of_the_users_nursery(network: TrioNetwork) -> None:
    async def fail() -> None:
        raise ValueError("mine")

    async with serving() as server:
        with pytest.raises(ExceptionGroup) as raised:
            async with connect(uri_of(server)), trio.open_nursery() as nursery:
                nursery.start_soon(fail)
        (error,) = raised.value.exceptions
        assert isinstance(error, ValueError)


@on_network
async def test_tasks_in_the_nursery_of_the_connection(network: TrioNetwork) -> None:
    """They end with the block, and their errors leave it."""

    async def fail() -> None:
        raise ValueError("mine")

    async with serving(codes := Codes()) as server:
        with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012
            async with connect(uri_of(server)) as websocket:
                websocket.nursery.start_soon(fail)
                await websocket.recv()
        (error,) = raised.value.exceptions
        assert isinstance(error, ValueError)
        async with connect(uri_of(server)) as websocket:
            websocket.nursery.cancel_scope.cancel()
            await websocket.recv()
        assert websocket.state is State.CLOSED
    assert codes.seen == [1001, 1001]


@on_network
async def test_lost_connection_does_not_cancel_the_body(network: TrioNetwork) -> None:
    listener = network.listen(port=80)

    async def drop() -> None:
        peer = await listener.peer()
        await answer_opening(peer)
        peer.reset()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drop)
        async with connect("ws://localhost/") as websocket:
            with pytest.raises(ConnectionClosedError):
                await websocket.recv()
            await trio.sleep(5)
            with pytest.raises(ConnectionClosedError):
                await websocket.send("x")


# --------------------------------------------------------------------------------------------------------- cancellation


@on_network
async def test_cancelled_body(network: TrioNetwork) -> None:
    """The peer gets a Close that is tried without waiting, and later calls don't wait for close_timeout."""
    async with serving(codes := Codes()) as server:
        made: list[ClientConnection] = []
        with trio.move_on_after(1) as scope:
            async with connect(uri_of(server)) as connection:
                made.append(connection)
                await connection.recv()
        assert scope.cancelled_caught
        (websocket,) = made
        now = trio.current_time()
        assert (websocket.state, websocket.close_code) == (State.CLOSED, 1006)
        with pytest.raises(ConnectionClosed):
            await websocket.send("x")
        assert trio.current_time() == now == 1
    assert codes.seen == [1001]


@on_network
async def test_cancelled_while_it_is_closed(network: TrioNetwork) -> None:
    listener = network.listen(port=80)

    async def stay_silent() -> None:
        await answer_opening(await listener.peer())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stay_silent)
        with trio.move_on_after(1) as scope:
            async with connect("ws://localhost/"):
                pass
        assert scope.cancelled_caught
        nursery.start_soon(stay_silent)
        # An error of the body takes precedence.
        with pytest.raises(ValueError, match="mine"), trio.move_on_after(1):
            async with connect("ws://localhost/"):
                raise ValueError("mine")
        assert trio.current_time() == 2


@on_network
async def test_cancelled_while_it_connects(network: TrioNetwork) -> None:
    listener = network.listen(port=80)
    connecting = connect("ws://localhost/")
    with trio.move_on_after(1):
        await connecting.__aenter__()
    peer = await listener.peer()
    assert b"GET / HTTP/1.1" in await peer.read_until()
    await peer.read_until_eof()
    # It can be used again.
    async with trio.open_nursery() as nursery:
        listener.close()
        server = await nursery.start(functools.partial(serve, echo, 80, host="localhost"))
        async with connecting as websocket:
            assert websocket.state is State.OPEN
        await server.aclose()


# ---------------------------------------------------------------------------------------------------------- time limits


@on_network
async def test_open_timeout(network: TrioNetwork) -> None:
    network.listen(port=80)
    with pytest.raises(TimeoutError, match=r"^timed out during opening handshake$") as raised:
        await connect("ws://localhost/", open_timeout=3).__aenter__()
    assert isinstance(raised.value.__cause__, trio.TooSlowError)
    assert trio.current_time() == 3


@on_network
async def test_open_timeout_while_tcp_connects(network: TrioNetwork) -> None:
    network.listen(port=80)
    network.blackhole("localhost", 80)
    with pytest.raises(TimeoutError, match=r"^timed out during opening handshake$"):
        await connect("ws://localhost/").__aenter__()
    assert trio.current_time() == 10


@on_network
async def test_no_limit(network: TrioNetwork) -> None:
    network.listen(port=80)
    with trio.move_on_after(1000) as scope:
        await connect("ws://localhost/", open_timeout=None).__aenter__()
    assert scope.cancelled_caught


@on_network
async def test_refusal_whose_body_never_ends(network: TrioNetwork) -> None:
    listener = network.listen(port=80)

    async def refuse() -> None:
        peer = await listener.peer()
        await peer.read_until()
        await peer.send(b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        with pytest.raises(InvalidStatus, match="HTTP 403"):
            await connect("ws://localhost/").__aenter__()


@on_network
async def test_nobody_listens(network: TrioNetwork) -> None:
    with pytest.raises(OSError, match=r"^all attempts to connect to localhost:80 failed$") as raised:
        await connect("ws://localhost/").__aenter__()
    assert isinstance(raised.value.__cause__, ExceptionGroup)


@on_network
async def test_failures_leave_no_cycle(network: TrioNetwork) -> None:
    """The frames of a failed attempt are freed at once."""
    network.listen(port=80)
    gc.disable()
    try:
        cases: list[dict[str, Any]] = [{"open_timeout": 1}, {"host": "nowhere.example"}]
        for options in cases:
            connecting = connect("ws://localhost/", **options)
            alive = weakref.ref(connecting)
            with pytest.raises(OSError):  # noqa: PT011
                await connecting.__aenter__()
            await trio.testing.wait_all_tasks_blocked()
            del connecting
            assert alive() is None
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------------- TCP, TLS, Unix


@on_network
async def test_another_address(network: TrioNetwork) -> None:
    async with (
        serving() as server,
        connect(
            "ws://example.com/",
            host="localhost",
            port=port_of(server),
            happy_eyeballs_delay=None,
            local_address="127.0.0.9",
            proxy=None,
        ) as websocket,
    ):
        assert websocket.request is not None
        assert websocket.request.headers["Host"] == "example.com"
        assert websocket.local_address[0] == "127.0.0.9"


@on_network
async def test_stream(network: TrioNetwork) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    class Once(trio.abc.Listener[Any]):
        """A listener with one connection."""

        def __init__(self) -> None:
            self.streams = [theirs]

        async def accept(self) -> Any:
            return self.streams.pop() if self.streams else await trio.sleep_forever()

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    async with serving(listeners=[Once()]) as server:
        async with connect("ws://localhost/", stream=ours) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
            assert websocket.stream is ours
            assert websocket.remote_address is None
            assert len(server.connections) == 1
        assert websocket.close_code == 1000


@on_network
async def test_tls(network: TrioNetwork) -> None:
    async with (
        serving(ssl=server_context()) as server,
        connect(uri_of(server, scheme="wss"), ssl=client_context()) as websocket,
    ):
        await websocket.send("hello")
        assert await websocket.recv() == "hello"


@on_network
async def test_tls_on_a_stream(network: TrioNetwork) -> None:
    async with serving(ssl=server_context()) as server:
        stream = await trio.open_tcp_stream("localhost", port_of(server))
        async with connect("wss://localhost/", stream=stream, ssl=client_context()) as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"


@pytest.mark.parametrize("ssl", [None, True])
@on_network
async def test_default_context_trusts_no_stranger(network: TrioNetwork, ssl: Any) -> None:
    async with serving(ssl=server_context()) as server:
        with pytest.raises(OSError, match="certificate verify failed"):
            await connect(uri_of(server, scheme="wss"), ssl=ssl).__aenter__()


@on_network
async def test_name_for_tls_without_tls(network: TrioNetwork) -> None:
    with pytest.raises(ValueError, match=r"^server_hostname is only meaningful with ssl$"):
        await connect("ws://localhost/", server_hostname="localhost").__aenter__()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")
@on_network
async def test_unix_sockets(network: TrioNetwork) -> None:
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind("/run/server")
    sock.listen()
    async with serving(listeners=[trio.SocketListener(sock)]):
        async with unix_connect("/run/server") as websocket:
            await websocket.send("hello")
            assert await websocket.recv() == "hello"
        assert websocket.request is not None
        assert websocket.request.headers["Host"] == "localhost"


def test_unix_sockets_need_a_path() -> None:
    with pytest.raises(ValueError, match=r"^missing path argument$"):
        unix_connect()
    ours, _ = trio.testing.memory_stream_pair()
    assert unix_connect(stream=ours).uri == "ws://localhost/"
    assert unix_connect(stream=ours, ssl=client_context()).uri == "wss://localhost/"


def test_checks_come_first() -> None:
    with pytest.raises(InvalidURI):
        connect("http://localhost/")


# ----------------------------------------------------------------------------------------------- connections, redirects


class Mine(ClientConnection):
    """A connection of a program's own class."""


@on_network
async def test_class_of_connections(network: TrioNetwork) -> None:
    async with serving() as server, connect(uri_of(server), create_connection=Mine, idle_timeout=5) as websocket:
        assert type(websocket) is Mine


@on_network
async def test_closing_that_fails(network: TrioNetwork) -> None:
    class Failing(ClientConnection):
        async def aclose(self, *args: Any, **kwargs: Any) -> None:
            await super().aclose(*args, **kwargs)
            raise LookupError("closing")

    async with serving() as server:
        with pytest.raises(LookupError, match="closing"):
            async with connect(uri_of(server), create_connection=Failing):
                pass
        with pytest.raises(LookupError, match="closing") as raised:
            async with connect(uri_of(server), create_connection=Failing):
                raise ValueError("mine")
        assert isinstance(raised.value.__context__, ValueError)


@on_network
async def test_tasks_that_fail_when_they_are_cancelled(network: TrioNetwork) -> None:
    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise LookupError("cleaning up")

    async with serving() as server:
        with pytest.raises(ExceptionGroup) as raised:  # noqa: PT012
            async with connect(uri_of(server)) as websocket:
                websocket.nursery.start_soon(fail)
                await trio.testing.wait_all_tasks_blocked()
                raise ValueError("mine")
        assert raised.value.subgroup(LookupError) is not None


@on_network
async def test_connection_that_cannot_be_made(network: TrioNetwork) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ValueError("mine")

    listener = network.listen(port=80)
    with pytest.raises(ValueError, match="mine"):
        await connect("ws://localhost/", create_connection=fail).__aenter__()
    assert await (await listener.peer()).read_until_eof() == b""


def redirect(location: str) -> Any:
    def process_request(connection: ServerConnection, request: Any) -> Any:
        if request.path == "/end":
            return None
        return connection.respond(302, "there", headers={"Location": location})

    return process_request


@on_network
async def test_redirects(network: TrioNetwork) -> None:
    async with serving(process_request=redirect("/end")) as server:
        async with connect(uri_of(server)) as websocket:
            assert websocket.request is not None
            assert websocket.request.path == "/end"
    assert server.statistics.opened == 1


@on_network
async def test_no_redirects_on_a_stream(network: TrioNetwork) -> None:
    async with serving(process_request=redirect("/end")) as server:
        stream = await trio.open_tcp_stream("localhost", port_of(server))
        with pytest.raises(ValueError, match="with a preexisting socket"):
            await connect("ws://localhost/", stream=stream).__aenter__()


@on_network
async def test_log(network: TrioNetwork, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    logger = logging.getLogger("mine")
    async with serving() as server, connect(uri_of(server), logger=logger) as websocket:
        assert websocket.logger.name == "mine"
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@on_network
async def test_extra_bytes_do_not_matter(network: TrioNetwork) -> None:
    """Messages may come in one piece with the response."""
    listener = network.listen(port=80)

    async def answer() -> None:
        peer = await listener.peer()
        head = (await peer.read_until()).decode()
        key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        await peer.send(wire.response(key=key) + wire.text("hello") + wire.close(1000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        async with connect("ws://localhost/") as websocket:
            assert await websocket.recv() == "hello"
