"""``websockets.testing.trio``: servers, pairs and whole programs in memory."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio
import trio.testing
from werkzeug.routing import Map, Rule

from _kit.certificates import client_context, server_context
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.http11 import Response
from websockets.testing.trio import Network, connected_pair, link_of, run, serve_in_memory
from websockets.trio.client import connect
from websockets.trio.server import ServerConnection, serve


async def echo(websocket: ServerConnection) -> None:
    """Send back all messages."""
    async for message in websocket:
        await websocket.send(message)


def test_result_and_arguments() -> None:
    async def main(one: int, two: int) -> int:
        return one + two

    assert run(main, 1, 2) == 3


def test_exceptions_leave_as_they_are() -> None:
    async def main(where: str) -> None:
        async with serve_in_memory(echo) as server:
            if where == "server":
                raise ValueError(where)
            async with server.connect():
                raise ValueError(where)

    for where in ("server", "connection"):
        with pytest.raises(ValueError, match=where):
            run(main, where)


def test_serve_in_memory() -> None:
    async def main() -> None:
        paths: list[Any] = []

        async def handler(websocket: ServerConnection) -> None:
            paths.append((websocket.request.path, websocket.remote_address[0]))  # type: ignore[union-attr]
            await echo(websocket)

        async with serve_in_memory(handler, max_size=10) as server:
            async with server.connect("/chat?room=1") as one, server.connect("ws://example.com/", max_size=5) as two:
                await one.send("hi")
                assert await one.recv() == "hi"
                await two.send("123456")
                with pytest.raises(ConnectionClosedError, match="1009"):
                    await two.recv()
            async with server.connect(local_address="10.1.2.3"):
                pass
            assert len(server.links) == 3
            assert server.network.links == server.links
            assert server.server.connections == set()
        assert paths == [("/chat?room=1", "127.0.0.1"), ("/", "127.0.0.1"), ("/", "10.1.2.3")]
        assert [link.closed for link in server.links] == [True] * 3

    run(main)


def test_tls_and_all_addresses() -> None:
    async def main() -> None:
        async with serve_in_memory(echo, host="0.0.0.0", port=443, ssl=server_context()) as server:
            assert server.uri == "wss://localhost:443"
            async with server.connect(ssl=client_context()) as websocket:
                await websocket.send("secret")
                assert await websocket.recv() == "secret"
                assert link_of(websocket) is server.links[0]

    run(main)


def test_options_that_are_wrong() -> None:
    async def main() -> None:
        network = Network()
        for _ in range(2):
            with pytest.raises(TypeError, match="nonsense"):
                async with serve_in_memory(echo, network=network, port=80, nonsense=1):
                    raise AssertionError

    run(main)


def test_address_in_use() -> None:
    async def main() -> None:
        async with serve_in_memory(echo, port=80):
            with pytest.raises(OSError, match="address already in use"):
                async with serve_in_memory(echo, port=80):
                    raise AssertionError

    run(main)


def test_url_map() -> None:
    async def main() -> None:
        async with serve_in_memory(Map([Rule("/echo", endpoint=echo)])) as server:
            async with server.connect("/echo") as websocket:
                await websocket.send("hi")
                assert await websocket.recv() == "hi"
            with pytest.raises(InvalidStatus, match="404"):
                async with server.connect("/other"):
                    raise AssertionError

    run(main)


def test_pair() -> None:
    async def main() -> None:
        async with connected_pair("/x", client={"max_size": 4}, compression=None) as (client, server):
            assert server.request is not None
            assert server.request.path == "/x"
            await client.send("12345")
            assert await server.recv() == "12345"
            await server.send("12345")
            with pytest.raises(ConnectionClosedError, match="1009"):
                await client.recv()
        assert server.close_code == 1009

    run(main)


def test_pair_whose_opening_fails() -> None:
    async def main() -> None:
        def refuse(connection: ServerConnection, _: Any) -> Response:
            return connection.respond(403, "no")

        with pytest.raises(InvalidStatus, match="403"):
            async with connected_pair(server={"process_request": refuse}):
                raise AssertionError

    run(main)


def test_keepalive_takes_no_time() -> None:
    async def main() -> None:
        start = trio.current_time()
        async with connected_pair(ping_interval=20, ping_timeout=20) as (client, _):
            await trio.sleep(600)
            assert client.close_code is None
            link_of(client).drop()
            with pytest.raises(ConnectionClosedError, match="keepalive"):
                await client.recv()
        assert trio.current_time() - start < 600 + 60

    run(main)


def test_blocked_connections_do_not_keep_the_end_waiting() -> None:
    async def main() -> None:
        start = trio.current_time()
        async with connected_pair(close_timeout=None, ping_interval=None) as (client, server):
            link_of(server).hold()
        assert (client.close_code, server.close_code) == (1006, 1006)
        assert trio.current_time() == start

    run(main)


def test_slow_network() -> None:
    async def main() -> None:
        network = Network(delay=(0.02, 0.08), chunk=(1, 100), loss=0.1, seed=42)
        async with connected_pair(network=network) as (client, server):
            start = trio.current_time()
            await client.send(b"x" * 10_000)
            assert len(await server.recv()) == 10_000
            assert trio.current_time() - start > 0.02

    run(main)


def test_link_of_something_else() -> None:
    async def main() -> None:
        near, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            give, take = trio.open_memory_channel[ServerConnection](1)

            async def handler(websocket: ServerConnection) -> None:
                await give.send(websocket)
                await websocket.wait_closed()

            streams = [far]

            class Once(trio.abc.Listener[Any]):
                async def accept(self) -> Any:
                    if not streams:
                        await trio.sleep_forever()
                    return streams.pop()

                async def aclose(self) -> None:
                    pass

            async def start(task_status: Any) -> None:
                await serve(handler, listeners=[Once()], task_status=task_status)

            server = await nursery.start(start)
            async with connect("ws://localhost", stream=near) as websocket:
                for connection in (websocket, await take.receive()):
                    with pytest.raises(TypeError, match="isn't in memory"):
                        link_of(connection)
            await server.aclose()

    run(main)


def test_whole_program() -> None:
    """serve() and connect() use the network by themselves."""

    async def clock(websocket: ServerConnection) -> None:
        while True:
            await websocket.send("tick")
            await trio.sleep(3600)

    async def main() -> int:
        async with trio.open_nursery() as nursery:

            async def start(task_status: Any) -> None:
                await serve(clock, 80, host="localhost", task_status=task_status)

            server = await nursery.start(start)
            async with connect("ws://localhost") as websocket:
                ticks = [await websocket.recv() for _ in range(5)]
            await server.aclose(timeout=1)
        return len(ticks)

    assert run(main) == 5


def test_in_a_run_of_the_user() -> None:
    """Without the virtual clock; and the same network in two runs."""
    network = Network()

    async def main() -> None:
        async with connected_pair(network=network) as (client, server):
            await client.send("hi")
            assert await server.recv() == "hi"
        async with connected_pair() as (client, server):
            assert link_of(client) not in network.links

    trio.run(main)
    trio.run(main)
    assert len(network.links) == 2


# ---------------------------------------------------------------------------------------------------------- the network


def test_open_tcp_stream() -> None:
    async def main() -> None:
        network = Network()
        network.hosts["two.test"] = ["10.0.0.1", "10.0.0.2"]
        with pytest.raises(ConnectionRefusedError):
            await network.open_tcp_stream("two.test", 80)
        listener = await network.open_listener("10.0.0.2", 80)
        stream = await network.open_tcp_stream("two.test", 80)
        accepted = await listener.accept()
        assert stream.socket.getpeername() == accepted.socket.getsockname() == ("10.0.0.2", 80)
        await stream.send_all(b"hi")
        assert await accepted.receive_some() == b"hi"
        network.hosts["none.test"] = []
        with pytest.raises(socket.gaierror):
            await network.open_tcp_stream("none.test", 80)

    run(main)


@pytest.mark.skipif(not hasattr(trio, "open_unix_socket"), reason="needs Unix sockets")
def test_unix_socket() -> None:
    async def main() -> None:
        network = Network()
        with pytest.raises(FileNotFoundError):
            await network.open_unix_socket("/nowhere")
        sock: Any = network.socket(getattr(socket, "AF_UNIX", 1))
        await sock.bind("/place")
        sock.listen()
        stream = await network.open_unix_socket("/place")
        accepted, _ = await sock.accept()
        await stream.send_all(b"hi")
        assert await accepted.recv(10) == b"hi"

    run(main)


def test_names_of_addresses() -> None:
    async def main() -> None:
        assert await Network().getnameinfo(("10.0.0.1", 80), 0) == ("10.0.0.1", "80")

    run(main)


def test_reconnecting() -> None:
    async def main() -> None:
        async with serve_in_memory(echo) as server:
            count = 0
            async for websocket in server.connect():
                count += 1
                if count == 3:
                    break
                link_of(websocket).reset()
                with pytest.raises(ConnectionClosedError):
                    await websocket.recv()
            assert len(server.links) == 3

    run(main)


def test_sockets() -> None:
    """What programs ask trio's sockets."""

    async def main() -> None:
        network = Network()
        sock: Any = network.socket(socket.AF_INET)
        assert (sock.family, sock.type, sock.proto) == (socket.AF_INET, socket.SOCK_STREAM, 0)
        with pytest.raises(OSError, match="not connected"):
            sock.getpeername()
        sock.close()
        assert sock.fileno() == -1
        network.blackhole("never.test", 80)
        with trio.move_on_after(100) as scope:
            await network.open_tcp_stream("never.test", 80)
        assert scope.cancelled_caught
        async with await network.open_listener("localhost"):
            pass

    run(main)
