"""Scenarios about time and resources in threads: churn, failures that nobody asks for, a crowd on a bad network."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from _kit import request, wire
from _kit.blocking import PATIENCE, BlockingPeer, enter, knock, serving, wait_for
from _kit.threads import VirtualSystem, run_threads
from robustness.worlds import needs_proc
from websockets import PreparedMessage
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.sync.connection import Connection
from websockets.sync.server import Server, ServerConnection, broadcast, serve

scenario = pytest.mark.scenario


def uri_of(server: Server, path: str = "/") -> str:
    """The URI of a path on a server."""
    return f"ws://127.0.0.1:{server.socket.getsockname()[1]}{path}"


@pytest.fixture
def uncaught(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What ended a thread, or was left to the garbage collector."""
    found: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", found.append)
    monkeypatch.setattr("sys.unraisablehook", found.append)
    yield found
    gc.collect()
    assert found == []


def in_threads(count: int, function: Callable[[int], object]) -> None:
    """Call a function in several threads at once; raise what it raised."""
    failures: list[BaseException] = []

    def call(number: int) -> None:
        try:
            function(number)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=call, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    if failures:
        raise failures[0]


def collected() -> list[Any]:
    """What is left after the garbage was collected."""
    gc.collect()
    return gc.get_objects()


@scenario(66)
@needs_proc
def test_s66_churn_in_threads_leaves_nothing_behind(uncaught: list[Any]) -> None:
    """1000 connections that end in different ways: the last leave as much behind as the first, which is nothing."""

    def handler(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                connection.send(message)

    def once(server: Server, number: int) -> None:
        kind = number % 5
        if kind == 0:
            with knock(server) as peer:
                peer.send(b"garbage\r\n\r\n")
                peer.read_until_eof()
        elif kind == 1:
            with enter(server, request(headers={"Sec-WebSocket-Extensions": "permessage-deflate"})) as peer:
                peer.send(wire.text("x", fin=False, mask=True))
        else:
            client = connect(uri_of(server), proxy=None, legacy=True)
            client.send("hello" * 100)
            assert client.recv(timeout=PATIENCE) == "hello" * 100
            client.abort() if kind == 2 else client.close()

    def some(count: int) -> tuple[int, int, int]:
        with serving(handler, close_timeout=1, compression="deflate") as server:
            in_threads(10, lambda number: list(map(functools.partial(once, server), range(number, count, 10))))
            wait_for(lambda: not server._ws_registry.all)
        # The steward may be about to forget the last ones.
        wait_for(lambda: not any(isinstance(each, Connection) for each in collected()))
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(collected())

    # The steward starts with the first connection, and stays.
    some(10)
    files, threads, objects = some(200)
    files_then, threads_then, objects_then = some(800)
    assert (files_then, threads_then) == (files, threads)
    assert objects_then - objects < 300


@scenario(84)
def test_s84_failures_in_threads_reach_somebody(uncaught: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    """Everything fails, everywhere; each failure reaches a caller, or the log, and ends no thread of the library."""
    caplog.set_level(logging.ERROR)

    def handler(connection: ServerConnection) -> None:
        connection.ping()
        connection.send("hello")
        raise LookupError

    def process_request(connection: ServerConnection, request: Any) -> None:
        if request.path == "/crash":
            raise LookupError

    with serving(handler, process_request=process_request, close_timeout=0.1) as server:
        for data in [b"garbage\r\n\r\n", request("/crash"), request(), request() + b"\xff" * 100]:
            with knock(server) as peer:
                peer.send(data)
            with knock(server) as peer:
                peer.send(data)
                peer.read_until()
                peer.reset()
        for path in ["/crash", "/"]:
            with contextlib.suppress(Exception):
                client = connect(uri_of(server, path), proxy=None, legacy=True)
                client.ping()
                client.abort()
                client.recv(timeout=PATIENCE)
        wait_for(lambda: not server._ws_registry.all)
    texts = {record.getMessage().partition(":")[0] for record in caplog.records}
    assert texts <= {"connection handler failed", "process_request failed"}


@scenario(85)
def test_s85_connections_in_threads(uncaught: list[Any]) -> None:
    """Many threads, each with a connection of its own; what was prepared is for all of them."""
    text = "é" * 70_000
    shared = PreparedMessage(text)

    def handler(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message if message != "shared" else shared)

    def talk(number: int) -> None:
        with connect(uri_of(server), proxy=None) as client:
            for count in range(100):
                client.send(f"{number} {count}" * 50)
                assert client.recv(timeout=PATIENCE) == f"{number} {count}" * 50
            client.send(shared)
            client.send("shared")
            assert [client.recv(timeout=PATIENCE), client.recv(timeout=PATIENCE)] == [text, text]

    with serving(handler, compression="deflate") as server:
        in_threads(6, talk)
        with connect(uri_of(server), proxy=None) as client:
            client.send("here")
            assert client.recv(timeout=PATIENCE) == "here"
            in_threads(6, lambda number: broadcast(server.connections, shared))
            assert [client.recv(timeout=PATIENCE) for _ in range(6)] == [text] * 6


@scenario(64)
@pytest.mark.parametrize("end", ["close", "reset"])
def test_s64_a_lost_connection_ends_threads_that_receive(end: str) -> None:
    ended: list[ConnectionClosed] = []

    def handler(connection: ServerConnection) -> None:
        try:
            connection.recv()
        except ConnectionClosed as exc:
            ended.append(exc)

    with serving(handler) as server:
        peer: BlockingPeer = enter(server)
        peer.send(wire.text("lost", mask=True)[:-1])
        peer.close() if end == "close" else peer.reset()
        wait_for(lambda: ended)  # type: ignore[arg-type, return-value]
    assert ended[0].rcvd is None


@scenario(87)
@pytest.mark.parametrize("seed", range(3))
def test_s87_a_crowd_of_threads_on_a_network_that_fails(seed: int) -> None:
    """Two virtual seconds of connections that come and go; in the end nothing is left."""
    run_threads(lambda system: _crowd(system, random.Random(seed)))


def _crowd(system: VirtualSystem, rng: random.Random) -> None:
    options: dict[str, Any] = {"ping_interval": 0.5, "ping_timeout": 0.5, "close_timeout": 0.5, "open_timeout": 0.5}
    counts = {"exchanged": 0, "failed": 0}
    end = system.now() + 2

    def handler(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                connection.send(message)

    def live(client: ClientConnection) -> None:
        for _ in range(rng.randrange(20)):
            message: Any = rng.choice(["text", b"binary", "x" * rng.randrange(5_000), ["in ", "pieces"]])
            client.send(message)
            if rng.random() < 0.8:
                client.recv()
                counts["exchanged"] += 1
            system.sleep(rng.random() * 0.05)

    def come_and_go() -> None:
        while system.now() < end:
            try:
                with connect(uri, proxy=None, **options) as client:
                    live(client)
            except (WebSocketException, OSError):
                counts["failed"] += 1
                system.sleep(0.01)

    def break_things() -> None:
        faults = ["reset", "drop", "slow", "hold", "hold"]
        while system.now() < end:
            system.sleep(rng.random() * 0.02)
            living = [link for link in system.network.links if not link.client.closed]
            if not living:
                continue
            link, fault = rng.choice(living), rng.choice(faults)
            with contextlib.suppress(OSError):
                if fault == "slow":
                    link.slow(rng.random() * 0.1)
                elif fault == "hold":
                    link.hold()
                    system.call_at(system.now() + rng.random() * 0.2, link.release)
                else:
                    getattr(link, fault)()

    with serve(handler, "localhost", 0, **options) as server:
        uri = f"ws://localhost:{server.socket.getsockname()[1]}/"
        system.start_thread(server.serve_forever, name="server")
        crowd = [system.start_thread(come_and_go, name=f"client {number}") for number in range(20)]
        for thread in [system.start_thread(break_things, name="faults"), *crowd]:
            thread.join()
        system.sleep(3)
        assert not server._ws_registry.all
        assert all(link.client.closed and link.server.closed for link in system.network.links)
    assert counts["exchanged"] > 200
    assert counts["failed"] > 20
