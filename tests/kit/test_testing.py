"""``websockets.testing`` as its users see it: apps and pairs in memory, on ordinary loops and on virtual time."""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.routing import Map, Rule

from _kit.asking import uri_of
from websockets import testing
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.router import route
from websockets.asyncio.server import ServerConnection, serve, unix_serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.testing import (
    Deadlock,
    InMemoryServer,
    Network,
    VirtualClockLoop,
    connected_pair,
    link_of,
    run,
    serve_in_memory,
)
from websockets.typing import Subprotocol


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


@pytest.fixture(scope="module")
def watchers() -> list[list[str]]:
    """Lists to which what is done with sockets is added; an audit hook can't be removed, so one serves all tests."""
    lists: list[list[str]] = []

    def note(event: str, arguments: tuple[object, ...]) -> None:
        for seen in lists if event.startswith("socket.") else ():
            seen.append(event)

    sys.addaudithook(note)
    return lists


@pytest.fixture
def sockets(watchers: list[list[str]]) -> Iterator[list[str]]:
    """Uses of sockets, by Python's audit events; asyncio makes some for itself, before a test."""
    seen: list[str] = []
    watchers.append(seen)
    yield seen
    watchers.clear()


# A whole app.


async def test_an_app() -> None:
    async with serve_in_memory(echo) as server:
        async with server.connect("/chat?room=1") as websocket:
            await websocket.send("Hello!")
            assert await websocket.recv() == "Hello!"
            assert websocket.request is not None
            assert websocket.request.path == "/chat?room=1"
            (inside,) = server.server.connections
            assert inside.request is not None
            assert inside.request.headers["Host"] == server.uri.removeprefix("ws://")
    with pytest.raises(ConnectionRefusedError):
        await server.connect()


async def test_no_socket(sockets: list[str]) -> None:
    sockets.clear()
    async with serve_in_memory(echo) as server, server.connect() as websocket, connected_pair() as (client, inside):
        for one, other in [(websocket, websocket), (client, inside)]:
            await one.send("Hello!")
            assert await other.recv() == "Hello!"
    assert sockets == []


@pytest.mark.asyncio(loop_factories=["real"])
async def test_a_socket_would_be_seen(sockets: list[str]) -> None:
    async with serve(echo, "localhost", 0):
        pass
    assert "socket.bind" in sockets


async def test_a_hundred_connections(sockets: list[str]) -> None:
    async def use(server: InMemoryServer, number: int) -> None:
        async with server.connect() as websocket:
            for size in range(10):
                await websocket.send(f"{number}" * size)
                assert await websocket.recv() == f"{number}" * size

    sockets.clear()
    began = time.process_time()
    async with serve_in_memory(echo) as server:
        await asyncio.gather(*(use(server, number) for number in range(100)))
    # Nothing waits for the clock: that takes a tenth of a second, or a few if lines are counted on a busy machine.
    assert time.process_time() - began < 10
    assert len(server.links) == 100
    assert all(link.closed for link in server.links)
    assert sockets == []


async def test_options_reach_both_ends() -> None:
    class Client(ClientConnection):
        pass

    class Inside(ServerConnection):
        pass

    async with (
        serve_in_memory(echo, subprotocols=["chat"], compression=None, create_connection=Inside) as server,
        server.connect(subprotocols=["chat"], create_connection=Client, local_addr=("10.9.8.7", 0)) as websocket,
    ):
        (inside,) = server.server.connections
        assert (type(websocket), type(inside)) == (Client, Inside)
        assert websocket.subprotocol == "chat"
        assert inside.protocol.extensions == websocket.protocol.extensions == []
        assert inside.remote_address[0] == "10.9.8.7"


async def test_refusals_are_real() -> None:
    async with serve_in_memory(echo, origins=["https://example.com"]) as server:
        with pytest.raises(InvalidStatus, match="403"):
            await server.connect(origin="https://evil.example")


async def test_a_uri_tells_the_host_and_leads_to_the_server_all_the_same() -> None:
    async with serve_in_memory(echo) as server:
        async with server.connect("ws://api.example.com/v1") as websocket:
            assert websocket.request is not None
            assert websocket.request.headers["Host"] == "api.example.com"
            await websocket.send("Hello!")
            assert await websocket.recv() == "Hello!"


async def test_connecting_again() -> None:
    async def once(websocket: ServerConnection) -> None:
        await websocket.send(await websocket.recv())

    seen: list[str | bytes] = []
    async with serve_in_memory(once) as server:
        async for websocket in server.connect(reconnect_delays=lambda: iter([0.0] * 5)):
            await websocket.send(str(len(seen)))
            seen.append(await websocket.recv())
            if len(seen) == 3:
                break
    assert seen == ["0", "1", "2"]
    assert len(server.links) == 3


def anonymous(side: int) -> ssl.SSLContext:
    """TLS without certificates."""
    context = ssl.SSLContext(side)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


async def test_tls_in_memory() -> None:
    async with serve_in_memory(echo, ssl=anonymous(ssl.PROTOCOL_TLS_SERVER)) as server:
        assert server.uri.startswith("wss://localhost:")
        async with server.connect(ssl=anonymous(ssl.PROTOCOL_TLS_CLIENT)) as websocket:
            await websocket.send("Hello!")
            assert await websocket.recv() == "Hello!"
            assert link_of(websocket) is server.links[0]


# Servers that a program made.


async def test_a_server_that_was_made_elsewhere() -> None:
    app = serve(echo, "0.0.0.0", 8765)
    async with serve_in_memory(app) as server:
        assert server.server is app
        assert server.uri == "ws://localhost:8765"
        async with server.connect() as websocket:
            await websocket.send("Hello!")
            assert await websocket.recv() == "Hello!"


async def test_a_unix_server_in_memory() -> None:
    async with serve_in_memory(unix_serve(echo, "/no/such/path")) as server, server.connect() as websocket:
        await websocket.send("Hello!")
        assert await websocket.recv() == "Hello!"


async def test_routes() -> None:
    url_map = Map([Rule("/echo", endpoint=echo)])
    async with serve_in_memory(route(url_map, "localhost", 80)) as server:
        async with server.connect("/echo") as websocket:
            await websocket.send("Hello!")
            assert await websocket.recv() == "Hello!"
        with pytest.raises(InvalidStatus, match="404"):
            await server.connect("/other")


async def test_a_server_keeps_its_options_and_listens_once() -> None:
    with pytest.raises(TypeError, match="when the server is made: compression"):
        async with serve_in_memory(serve(echo), compression=None):
            pass
    async with serve_in_memory(echo) as server:
        with pytest.raises(RuntimeError, match="listens already"):
            async with serve_in_memory(server.server):
                pass


async def test_servers_share_a_network() -> None:
    network = Network()
    async with serve_in_memory(echo, network=network) as one, serve_in_memory(echo, network=network) as other:
        assert one.uri != other.uri
        async with other.connect(), one.connect():
            assert len(network.links) == 2
            assert (one.links, other.links) == (network.links[1:], network.links[:1])
        with pytest.raises(OSError, match="in use"):
            async with serve_in_memory(serve(echo, "localhost", 20000), network=network):
                pass


# Pairs.


async def test_a_pair() -> None:
    async with connected_pair() as (client, server):
        assert isinstance(client, ClientConnection)
        assert isinstance(server, ServerConnection)
        await client.send("to server")
        await server.send(b"to client")
        assert (await server.recv(), await client.recv()) == ("to server", b"to client")
        assert link_of(client) is link_of(server)
    assert (client.close_code, server.close_code) == (1000, 1000)


async def test_options_of_a_pair() -> None:
    path, chat = "/path", Subprotocol("chat")
    async with connected_pair(
        path, subprotocols=[chat], client={"max_size": 10}, server={"max_size": 20}, compression=None
    ) as (client, server):
        assert server.request is not None
        assert (server.request.path, server.subprotocol) == (path, chat)
        await client.send("x" * 20)
        assert await server.recv() == "x" * 20
        await server.send("x" * 11)
        with pytest.raises(ConnectionClosedError, match="1009"):
            await client.recv()


async def test_a_pair_whose_options_do_not_agree() -> None:
    with pytest.raises(InvalidStatus, match="403"):
        async with connected_pair(server={"origins": ["https://example.com"]}):
            pass


async def test_a_pair_of_which_one_end_is_closed() -> None:
    async with connected_pair() as (client, server):
        await server.close(4000, "bye")
        with pytest.raises(ConnectionClosed, match="4000"):
            await client.recv()


@pytest.mark.parametrize("fault", ["hold", "drop", "reset"])
async def test_leaving_does_not_wait_for_what_cannot_come(fault: str) -> None:
    began = time.perf_counter()
    async with serve_in_memory(echo, close_timeout=300) as server, connected_pair(close_timeout=300) as (client, _):
        websocket = await server.connect(close_timeout=300)
        for link in (link_of(client), link_of(websocket)):
            getattr(link, fault)()
    assert time.perf_counter() - began < 60


async def test_leaving_while_nobody_reads() -> None:
    began = time.perf_counter()
    async with connected_pair(compression=None, max_queue=1, client={"close_timeout": 300}) as (client, server):
        for end in (client, server):
            for _ in range(10):
                await end.send("x" * 5000)
    assert time.perf_counter() - began < 60
    assert (client.close_code, server.close_code) == (1000, 1000)


@pytest.mark.asyncio(loop_factories=["real"])
async def test_links_are_in_memory_only() -> None:
    async with serve(echo, "localhost", 0) as server:
        async with connect(uri_of(server), proxy=None) as websocket:
            with pytest.raises(TypeError, match="isn't in memory"):
                link_of(websocket)


# Virtual time.


def test_hours_of_keepalive() -> None:
    async def main() -> None:
        async with connected_pair(ping_interval=20, ping_timeout=20) as (client, server):
            clock = asyncio.get_running_loop()
            began = clock.time()
            await asyncio.sleep(3 * 3600)
            assert clock.time() - began == 3 * 3600
            link_of(client).drop()
            for end in (client, server):
                with pytest.raises(ConnectionClosedError, match="keepalive ping timeout"):
                    await end.recv()
            assert clock.time() - began <= 3 * 3600 + 60

    began = time.perf_counter()
    run(main())
    assert time.perf_counter() - began < 60


def test_a_program_as_it_is() -> None:
    """It calls serve() and connect() itself."""

    async def program() -> str:
        async with serve(echo, "localhost", 8765), connect("ws://localhost:8765") as websocket:
            await websocket.send("Hello!")
            return str(await websocket.recv())

    network = Network()
    assert run(program(), network=network) == "Hello!"
    assert len(network.links) == 1


def test_a_deadlock_is_an_error() -> None:
    async def main() -> None:
        async with connected_pair(ping_interval=None) as (client, _):
            await client.recv()

    with pytest.raises(Deadlock, match=r"nothing is ready and no timer is set; waiting: .*main \(test_testing.py:"):
        run(main())


@pytest.mark.asyncio(loop_factories=["virtual"])
async def test_the_loop_of_a_test_can_be_virtual() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    began = time.perf_counter()
    async with serve(echo, "localhost", 80), connect("ws://localhost") as websocket:
        await asyncio.sleep(3600)
        assert len(loop.network.links) == 1
        await websocket.send("still there")
        assert await websocket.recv() == "still there"
    assert time.perf_counter() - began < 60


def test_what_only_goes_on_is_an_error_too() -> None:
    cleaned: list[str] = []

    async def main() -> None:
        async with connected_pair(ping_interval=20) as (client, _):
            try:
                await client.recv()
            finally:
                # There is time to clean up.
                await asyncio.sleep(30)
                cleaned.append("up")

    with pytest.raises(Deadlock, match="only timers run, and it is 1620.*, past 1600.*main "):
        run(main(), time_limit=600)
    assert cleaned == ["up"]


# What the documentation says.


def examples() -> list[str]:
    """The blocks of code in the docstring of the module."""
    blocks = re.findall(r"::\n\n((?:(?: {4}.*)?\n)+)", testing.__doc__ or "")
    return [textwrap.dedent(block) for block in blocks]


def test_the_examples_run() -> None:
    first, second, network, virtual, hook = examples()
    names: dict[str, Any] = {name: getattr(testing, name) for name in testing.__all__}
    names |= {"asyncio": asyncio, "handler": echo, "pytest": pytest, "ConnectionClosedError": ConnectionClosedError}
    for source in (first, second, virtual, hook):
        exec(source, names)
    run(names["test_echo"]())
    run(names["test_too_long"]())
    names["test_keepalive"]()
    assert names["pytest_asyncio_loop_factories"](None, None) == {"virtual": VirtualClockLoop}
    making, *faults = filter(None, network.splitlines())
    exec(making, names)
    assert isinstance(names["network"], Network)

    async def break_it(fault: str) -> None:
        async with connected_pair() as (names["websocket"], _):
            exec(fault, names)

    for fault in faults[1:]:
        run(break_it(fault))
