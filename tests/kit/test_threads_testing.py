"""``websockets.testing.threads``: servers, pairs and whole programs in memory, and the network below."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.routing import Map, Rule

from _kit.blocking import PATIENCE, wait_for
from _kit.certificates import client_context, server_context
from _kit.platforms import needs_unix_sockets
from websockets import testing
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.http11 import Response
from websockets.sync._system import DONTWAIT, READ, WRITE, current
from websockets.sync.client import connect, unix_connect
from websockets.sync.server import ServerConnection, serve, unix_serve
from websockets.testing.threads import Network, connected_pair, link_of, run, serve_in_memory


def others() -> set[threading.Thread]:
    """All threads but the one that serves connections over real sockets, which stays."""
    steward = current().steward
    return {thread for thread in threading.enumerate() if steward is None or thread is not steward._thread}


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = others()
    yield
    wait_for(lambda: others() <= before)


def echo(websocket: ServerConnection) -> None:
    """Send back all messages."""
    for message in websocket:
        websocket.send(message)


def test_the_module_is_found() -> None:
    assert testing.threads.serve_in_memory is serve_in_memory
    with pytest.raises(AttributeError, match="nonsense"):
        _ = testing.nonsense  # type: ignore[attr-defined]


def test_result_and_arguments() -> None:
    def main(one: int, two: int) -> int:
        return one + two

    assert run(main, 1, 2) == 3


@pytest.mark.parametrize("where", ["server", "connection"])
def test_exceptions_leave_as_they_are(where: str) -> None:
    def main() -> None:
        with serve_in_memory(echo) as server:
            if where == "server":
                raise ValueError(where)
            with server.connect():
                raise ValueError(where)

    with pytest.raises(ValueError, match=where):
        main()


def test_after_an_exception_all_connections_are_broken() -> None:
    ended: list[int | None] = []

    def handler(websocket: ServerConnection) -> None:
        websocket.wait_closed()
        ended.append(websocket.close_code)

    clients = []

    def main() -> None:
        with serve_in_memory(handler, close_timeout=None) as server:
            clients.append(server.connect().connect())
            with server.connect():
                pass
            wait_for(lambda: server.links[1].closed)
            raise ValueError("!")

    with pytest.raises(ValueError, match="!"):
        main()
    assert sorted(map(str, ended)) == ["1000", "1006"]
    with pytest.raises(ConnectionClosedError):
        clients[0].recv(timeout=PATIENCE)


def test_a_handler_that_never_ends_does_not_hide_the_failure(caplog: pytest.LogCaptureFixture) -> None:
    end, running = threading.Event(), threading.Event()

    def handler(websocket: ServerConnection) -> None:
        running.set()
        end.wait()

    def main() -> None:
        with serve_in_memory(handler) as server, server.connect():
            running.wait(PATIENCE)
            raise ValueError("!")

    with pytest.raises(ValueError, match="!"):
        main()
    end.set()
    assert "still run" in caplog.text


def test_serve_in_memory() -> None:
    paths: list[Any] = []

    def handler(websocket: ServerConnection) -> None:
        paths.append((websocket.request.path, websocket.remote_address[0]))  # type: ignore[union-attr]
        echo(websocket)

    with serve_in_memory(handler, max_size=10) as server:
        with server.connect("/chat?room=1") as one, server.connect("ws://example.com/", max_size=5) as two:
            one.send("hi")
            assert one.recv(timeout=PATIENCE) == "hi"
            two.send("123456")
            with pytest.raises(ConnectionClosedError, match="1009"):
                two.recv(timeout=PATIENCE)
        with server.connect(source_address=("10.1.2.3", 0)):
            pass
        assert len(server.links) == 3
        assert server.network.links == server.links
    assert server.server.connections == set()
    assert sorted(paths) == [("/", "10.1.2.3"), ("/", "127.0.0.1"), ("/chat?room=1", "127.0.0.1")]
    assert [link.closed for link in server.links] == [True] * 3


def test_tls_and_all_addresses() -> None:
    with serve_in_memory(echo, host="0.0.0.0", port=443, ssl=server_context()) as server:
        assert server.uri == "wss://localhost:443"
        with server.connect(ssl=client_context()) as websocket:
            websocket.send("secret")
            assert websocket.recv(timeout=PATIENCE) == "secret"
            assert link_of(websocket) is server.links[0]


def test_options_that_are_wrong() -> None:
    network = Network()
    for _ in range(2):
        with pytest.raises(TypeError, match="nonsense"), serve_in_memory(echo, network=network, port=80, nonsense=1):
            raise AssertionError


def test_address_in_use() -> None:
    network = Network()
    with (
        serve_in_memory(echo, network=network, port=80),
        pytest.raises(OSError, match="address already in use"),
        serve_in_memory(echo, network=network, port=80),
    ):
        raise AssertionError


def test_url_map() -> None:
    with serve_in_memory(Map([Rule("/echo", endpoint=echo)])) as server:
        with server.connect("/echo") as websocket:
            websocket.send("hi")
            assert websocket.recv(timeout=PATIENCE) == "hi"
        with pytest.raises(InvalidStatus, match="404"), server.connect("/other"):
            raise AssertionError


def test_pair() -> None:
    with connected_pair("/x", client={"max_size": 4}, compression=None) as (client, server):
        assert server.request is not None
        assert server.request.path == "/x"
        client.send("12345")
        assert server.recv(timeout=PATIENCE) == "12345"
        server.send("12345")
        with pytest.raises(ConnectionClosedError, match="1009"):
            client.recv(timeout=PATIENCE)
    assert server.close_code == 1009


def test_pair_whose_opening_fails() -> None:
    def refuse(connection: ServerConnection, _: Any) -> Response:
        return connection.respond(403, "no")

    with pytest.raises(InvalidStatus, match="403"), connected_pair(server={"process_request": refuse}):
        raise AssertionError


def test_pings_are_answered_while_nobody_receives() -> None:
    with connected_pair(ping_interval=0.02, ping_timeout=PATIENCE) as (client, server):
        wait_for(lambda: min(client.statistics.pings_received, server.statistics.pings_received) >= 3)


def test_keepalive_ends_what_is_half_open() -> None:
    with connected_pair(ping_interval=0.05, ping_timeout=0.05) as (client, _):
        link_of(client).drop()
        with pytest.raises(ConnectionClosedError, match="keepalive"):
            client.recv(timeout=PATIENCE)


def test_blocked_connections_do_not_keep_the_end_waiting() -> None:
    with connected_pair(close_timeout=None, ping_interval=None) as (client, server):
        link_of(server).hold()
    assert (client.close_code, server.close_code) == (1006, 1006)


@pytest.mark.parametrize("way", ["hold", "to_server"])
def test_held_data_arrives_later(way: str) -> None:
    with connected_pair(ping_interval=None) as (client, server):
        link = link_of(client)
        (link if way == "hold" else link.to_server).hold()
        client.send("later")
        with pytest.raises(TimeoutError):
            server.recv(timeout=0)
        threading.Timer(0.01, link.release).start()
        assert server.recv(timeout=PATIENCE) == "later"


def test_reset_wakes_who_waits() -> None:
    with connected_pair() as (client, server):
        threading.Timer(0.01, link_of(client).reset).start()
        for end in (client, server):
            with pytest.raises(ConnectionClosedError) as caught:
                end.recv(timeout=PATIENCE)
            assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_slow_network() -> None:
    network = Network(delay=(0.01, 0.02), chunk=(1, 1000), seed=42)
    with connected_pair(network=network) as (client, server):
        start = time.monotonic()
        client.send(b"x" * 10_000)
        assert len(server.recv(timeout=PATIENCE)) == 10_000
        assert time.monotonic() - start >= 0.01


def test_buffers_are_finite() -> None:
    """A peer that doesn't read keeps the writer waiting; the memory is that of the link."""
    with connected_pair(network=Network(capacity=1000), compression=None, max_queue=1) as (client, server):
        # Two messages fill the receive queue, so the server doesn't read the third one.
        client.send("one")
        client.send("two")
        with pytest.raises(TimeoutError):
            client.send(bytes(100_000), timeout=0.01)
        assert 0 < client.buffered_amount <= 100_000
        assert [len(server.recv(timeout=PATIENCE)) for _ in range(3)] == [3, 3, 100_000]


def test_link_of_something_else() -> None:
    with serve(echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with connect(f"ws://127.0.0.1:{server.socket.getsockname()[1]}", proxy=None) as websocket:
            with pytest.raises(TypeError, match="isn't in memory"):
                link_of(websocket)
        server.shutdown()
        thread.join()


def test_whole_program() -> None:
    """serve() and connect() use the network by themselves, in every thread."""

    def ticks(websocket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosedOK):
            while True:
                websocket.send("tick")

    def main() -> int:
        with serve(ticks, "", 80) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            with connect("ws://localhost") as websocket:
                count = len([websocket.recv(timeout=PATIENCE) for _ in range(5)])
            with serve_in_memory(echo) as other, connect(other.uri, proxy=None) as websocket:
                websocket.send("in the same network")
                assert websocket.recv(timeout=PATIENCE) == "in the same network"
            server.shutdown()
            thread.join()
        return count

    system = current()
    assert run(main) == 5
    assert current() is system


def test_in_memory_is_for_what_it_makes_alone() -> None:
    """While a server in memory runs, other connections of the program go to the network."""
    with serve_in_memory(echo), contextlib.closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            connect(f"ws://127.0.0.1:{sock.getsockname()[1]}", proxy=None)


def test_reconnecting() -> None:
    with serve_in_memory(echo) as server:
        for count, websocket in enumerate(server.connect(reconnect_delays=lambda: itertools.repeat(0)), 1):
            if count == 3:
                break
            link_of(websocket).reset()
            with pytest.raises(ConnectionClosedError):
                websocket.recv(timeout=PATIENCE)
        assert len(server.links) == 3


def test_two_servers_share_a_network() -> None:
    network = Network()
    with serve_in_memory(echo, network=network) as one:
        with serve_in_memory(echo, network=network) as two, two.connect() as websocket:
            websocket.send("hi")
            assert websocket.recv(timeout=PATIENCE) == "hi"
        # It still has a steward.
        with one.connect(ping_interval=0.01) as websocket:
            assert websocket.ping().wait(PATIENCE)
        assert one.uri != two.uri
    assert len(network.links) == 2


def test_nothing_is_left() -> None:
    with connected_pair() as (client, server):
        left = [weakref.ref(each) for each in (client, server, link_of(client), server.server)]
        del client, server
    gc.collect()
    assert [each() for each in left] == [None] * 4


@needs_unix_sockets
def test_unix_socket(tmp_path: Any) -> None:
    def main() -> None:
        path = str(tmp_path / "socket")
        with pytest.raises(FileNotFoundError):
            unix_connect(path)
        with unix_serve(echo, path) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            with unix_connect(path) as websocket:
                websocket.send("hi")
                assert websocket.recv(timeout=PATIENCE) == "hi"
            server.shutdown()
            thread.join()

    run(main)


def test_sockets_of_the_system_are_refused() -> None:
    near, far = socket.socketpair()

    def main() -> None:
        with pytest.raises(TypeError, match="isn't in memory"):
            connect("ws://localhost", sock=near, proxy=None)
        with serve(echo, sock=far) as server, pytest.raises(TypeError, match="isn't in memory"):
            server.serve_forever()

    run(main)
    near.close()
    far.close()


# ------------------------------------------------------------------------------------------------------------- sockets


@pytest.fixture
def network() -> Network:
    return Network()


def listening(network: Network, *address: Any) -> Any:
    return network._system.create_server(address or ("10.0.0.1", 80))


def test_connecting(network: Network) -> None:
    system = network._system
    listener = listening(network)
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    client = system.socket(socket.AF_INET, socket.SOCK_STREAM)
    with pytest.raises(OSError, match=r"(?i)not connected"):
        client.getpeername()
    with pytest.raises(OSError, match=r"(?i)not connected"):
        client.shutdown(socket.SHUT_WR)
    client.connect(("10.0.0.1", 80))
    accepted, address = listener.accept()
    assert address == client.getsockname() == accepted.getpeername()
    assert client.getpeername() == accepted.getsockname() == ("10.0.0.1", 80)
    assert (client.family, client.type, client.proto) == (socket.AF_INET, socket.SOCK_STREAM, 0)
    client.sendall(b"hi")
    assert accepted.recv(10) == b"hi"
    for sock in (client, accepted, listener):
        sock.close()
        assert sock.fileno() == -1


def test_connecting_in_vain(network: Network) -> None:
    system = network._system
    network.blackhole("never.test", 80)
    address = system.getaddrinfo("never.test", 80)[0][4]
    sock = system.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(0.01)
    with pytest.raises(TimeoutError):
        sock.connect(address)
    with pytest.raises(ConnectionRefusedError):
        system.socket(socket.AF_INET, socket.SOCK_STREAM).connect(("10.0.0.9", 80))
    slow = Network(delay=0.01)
    listener = listening(slow)
    sock = slow._system.socket(socket.AF_INET, socket.SOCK_STREAM)
    assert sock.connect_ex(("10.0.0.1", 80)) == errno.EINPROGRESS
    # It is closed before it is connected.
    sock.close()
    listener.settimeout(0.05)
    with pytest.raises(TimeoutError):
        listener.accept()


def test_a_listener_that_closes_resets_who_waits(network: Network) -> None:
    listener = listening(network)
    client = network._system.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.connect(("10.0.0.1", 80))
    listener.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def pair_of_sockets(network: Network) -> tuple[Any, Any]:
    listener = listening(network)
    client = network._system.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.connect(("10.0.0.1", 80))
    return client, listener.accept()[0]


def test_calls_that_wait_and_that_do_not(network: Network) -> None:
    client, server = pair_of_sockets(network)
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.recv(1)
    server.setblocking(True)
    if DONTWAIT:
        with pytest.raises(BlockingIOError):
            server.recv(1, DONTWAIT)
    server.settimeout(0.01)
    with pytest.raises(TimeoutError):
        server.recv(1)
    assert not network._system.wait(server, READ, 0)
    assert network._system.wait(server, WRITE, None)
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    server.shutdown(socket.SHUT_RDWR)
    assert client.recv(1) == b""


def test_a_socket_that_is_cut_or_closed_wakes_who_waits(network: Network) -> None:
    client, server = pair_of_sockets(network)
    threading.Timer(0.01, server.shutdown, [socket.SHUT_RDWR]).start()
    assert server.recv(1) == b""
    client, server = pair_of_sockets(Network())
    threading.Timer(0.01, client.close).start()
    with pytest.raises(OSError, match=r"(?i)bad file descriptor"):
        client.recv(1)


def test_selectors(network: Network) -> None:
    client, server = pair_of_sockets(network)
    with network._system.selector() as selector:
        selector.register(server, READ, "server")
        assert selector.select(0) == []
        client.send(b"x")
        ((key, mask),) = selector.select()
        assert (key.data, mask) == ("server", READ)
        selector.modify(server, READ | WRITE, "server")
        server.close()
        assert selector.unregister(server).data == "server"
        with pytest.raises(KeyError):
            selector.unregister(client)
        assert not selector.get_map()


def test_calls_can_be_taken_back(network: Network) -> None:
    system, called = network._system, []
    call = system.call_soon(lambda: called.append(1))
    system.call_at(system.time(), lambda: called.append(2))
    call.cancel()
    with system.changing():
        pass
    assert called == [2]
