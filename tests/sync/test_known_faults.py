"""Faults of earlier releases, and of other libraries for threads, that users reported: none of them is ours.

Those that other files test already aren't repeated. Charter: real sockets where the fault was about the system, and
otherwise a system whose threads take turns.
"""

from __future__ import annotations

import logging
import socket
import threading
from typing import Any

import pytest

from _kit import wire
from _kit.blocking import PATIENCE, echo, serving, wait_for
from _kit.certificates import client_context, server_context
from _kit.threads import VirtualSystem, run_threads
from sync.test_bridge import tls_pair
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.protocol import Protocol, Side, State
from websockets.sync.client import connect
from websockets.sync.connection import Connection
from websockets.sync.server import serve


def waits(connection: Any) -> bool:
    """Whether a thread waits for the socket."""
    return bool(connection._ws_reading_thread)


@pytest.mark.parametrize("way", ["ssl=", "sock="])
def test_who_receives_with_tls_does_not_block_who_sends(way: str) -> None:
    """``ssl.SSLSocket`` holds a lock while it receives, in some versions of Python, and then sending waits."""
    got: list[Any] = []

    def converse(ours: Any) -> None:
        receiving = threading.Thread(target=lambda: got.append(ours.recv(timeout=PATIENCE)))
        receiving.start()
        wait_for(lambda: waits(ours))
        ours.send("sent while another thread receives", timeout=PATIENCE)
        receiving.join(PATIENCE)
        assert got == ["sent while another thread receives"]

    if way == "ssl=":
        with serving(ssl=server_context()) as server:
            uri = f"wss://localhost:{server.socket.getsockname()[1]}"
            with connect(uri, ssl=client_context(), address=server.socket.getsockname(), proxy=None) as client:
                converse(client)
    else:
        one, other = tls_pair()
        ours, theirs = Connection(one, Protocol(Side.CLIENT)), Connection(other, Protocol(Side.SERVER))
        echoing = threading.Thread(target=echo, args=[theirs])
        echoing.start()
        converse(ours)
        ours.close()
        echoing.join(PATIENCE)


def test_many_threads_send_over_one_connection() -> None:
    """More threads than there are processors: all messages arrive, each whole, in the order of its thread."""
    one, other = socket.socketpair()
    ours, theirs = Connection(one, Protocol(Side.CLIENT)), Connection(other, Protocol(Side.SERVER))

    def send(number: int) -> None:
        for count in range(50):
            ours.send(f"{number}:{count}:" + "x" * (997 * count))

    threads = [threading.Thread(target=send, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    following = [0] * 8
    for _ in range(400):
        number, count, rest = str(theirs.recv(timeout=PATIENCE)).split(":")
        assert (int(count), len(rest)) == (following[int(number)], 997 * int(count))
        following[int(number)] += 1
    for thread in threads:
        thread.join(PATIENCE)
    theirs.abort()
    assert ours.wait_closed(PATIENCE)


def test_pings_never_get_into_messages() -> None:
    """Keepalive, ``ping()`` and messages of several threads at once make valid frames."""
    one, other = socket.socketpair()
    other.settimeout(PATIENCE)
    ours = Connection(one, Protocol(Side.CLIENT, state=State.OPEN), ping_interval=0.001, ping_timeout=PATIENCE)

    def send() -> None:
        for _ in range(30):
            ours.send("x" * 70_000)

    def ping() -> None:
        for _ in range(200):
            ours.ping()

    threads = [threading.Thread(target=function) for function in (send, send, send, ping)]
    for thread in threads:
        thread.start()
    messages = pings = 0
    unread = b""
    while messages < 90 or pings < 200:
        while (found := wire.parse_one(unread)) is None:
            unread += other.recv(2**16)
        row, unread = found
        assert row.opcode in (wire.TEXT, wire.PING), row
        if row.opcode == wire.TEXT:
            assert row.payload == b"x" * 70_000
            messages += 1
        else:
            pings += 1
            other.sendall(wire.pong(row.payload))
    for thread in threads:
        thread.join(PATIENCE)
    ours.abort()
    other.close()


@pytest.mark.parametrize("who", ["keepalive", "close"])
def test_a_send_that_is_stuck_holds_nobody(who: str) -> None:
    """The peer is gone without a word while a thread sends: keepalive sees it, and ``close()`` returns in time."""
    run_threads(lambda system: stuck_send(system, who), look_every=0)


def stuck_send(system: VirtualSystem, who: str) -> None:
    options: dict[str, Any] = {"ping_interval": 0.2, "ping_timeout": 0.2, "close_timeout": 0.5}
    client, server = system.link()
    ours = Connection(client, Protocol(Side.CLIENT, state=State.OPEN), **options)
    ended: list[float] = []

    def send() -> None:
        with pytest.raises(ConnectionClosedError):
            ours.send(bytes(10**6))
        ended.append(system.now())

    begin = system.now()
    sending = system.start_thread(send, name="sending")
    system.idle()
    if who == "close":
        ours.close()
        assert system.now() - begin <= 0.5 + 0.01
    sending.join()
    assert ended[0] - begin <= 0.2 + 0.2 + 0.5
    assert ours.close_code == 1006
    server.close()


def test_a_dead_peer_is_no_error_of_ours() -> None:
    """Nothing at ERROR, and no traceback, is in the log."""
    run_threads(dead_peer, look_every=0)


def dead_peer(system: VirtualSystem) -> None:
    records: list[logging.LogRecord] = []
    logger = logging.Logger("dead peer")

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger.addHandler(Keeping())
    client, server = system.link()
    protocol = Protocol(Side.CLIENT, state=State.OPEN, logger=logger)
    ours = Connection(client, protocol, ping_interval=0.2, ping_timeout=0.2, close_timeout=0.5)
    begin = system.now()
    with pytest.raises(ConnectionClosed, match="keepalive ping timeout"):
        ours.recv()
    assert system.now() - begin == pytest.approx(0.4, abs=0.05)
    assert [record for record in records if record.levelno >= logging.WARNING or record.exc_info] == []
    server.close()


@pytest.mark.parametrize("name", ["handler", "process_request", "process_response", "select_subprotocol"])
def test_coroutine_functions_are_refused(name: str) -> None:
    """When the server is made; otherwise each client would see its connection die."""

    async def later(*arguments: Any) -> None:
        """Do nothing."""

    arguments: dict[str, Any] = {"handler": echo, "host": "127.0.0.1", "port": 0, name: later}
    with pytest.raises(TypeError, match="later"):
        serve(**arguments)


def test_serving_ends_without_an_error() -> None:
    outcome: list[object] = []
    with serve(echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=lambda: outcome.append(server.serve_forever()))  # type: ignore[func-returns-value]
        thread.start()
        with connect(f"ws://127.0.0.1:{server.socket.getsockname()[1]}", proxy=None) as client:
            client.send("hi")
            assert client.recv(timeout=PATIENCE) == "hi"
        server.shutdown()
        thread.join(PATIENCE)
    assert outcome == [None]
