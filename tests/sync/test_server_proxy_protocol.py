"""Servers for threads behind proxies that send a header of the PROXY protocol."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import pytest

from _kit import request
from _kit.blocking import BlockingPeer, Logged, Made, ask, echo, knock, serving
from _kit.proxy_header import line, version_2
from _kit.sockets import anonymous_tls
from _kit.wire import bytewise, halves, whole
from scenarios._threads import run_in_threads
from websockets._session.arriving import CLOSING
from websockets.sync.server import Server, ServerConnection

CLIENT, PLACE = ("192.0.2.1", 1234), ("198.51.100.1", 443)
LINE = line(CLIENT, PLACE)


def addresses(connection: ServerConnection) -> None:
    connection.send(f"{connection.remote_address} {connection.local_address}")


def serving_behind(handler: Any = addresses, **options: Any) -> contextlib.AbstractContextManager[Server]:
    return serving(handler, **{"proxy_protocol": ["127.0.0.1"], **options})


def cut_off(client: BlockingPeer) -> None:
    """Expect the end of the connection, and no response."""
    with client, contextlib.suppress(ConnectionResetError):
        assert client.read_until_eof() == b""


def opened(client: BlockingPeer) -> None:
    assert client.read_until().startswith(b"HTTP/1.1 101 ")
    assert client.read_frame().payload == f"{CLIENT} {PLACE}".encode()
    client.answer_close()


@pytest.mark.parametrize("chunker", [whole, halves, bytewise])
@pytest.mark.parametrize("header", [LINE, version_2(CLIENT, PLACE)], ids=["1", "2"])
def test_addresses(header: bytes, chunker: Any) -> None:
    with serving_behind() as server, knock(server) as client:
        for chunk in chunker(header + request()):
            client.send(chunk)
        opened(client)
    assert server.statistics.counted == 0


def test_tls_after_the_header() -> None:
    context, trusting = anonymous_tls()
    with serving_behind(ssl=context) as server, knock(server) as client:
        client.send(LINE)
        client.sock = trusting.wrap_socket(client.sock, server_hostname="localhost")
        client.send(request())
        opened(client)


def test_not_a_proxy() -> None:
    with Logged() as logged, serving_behind(proxy_protocol=["192.0.2.9"]) as server:
        cut_off(knock(server))
        logged.find("connection from 127.0.0.1:")
    assert server.statistics.refused == {"not a trusted proxy": 1}


@pytest.mark.parametrize("data", [request(), b"PROXY nonsense\r\n"])
def test_no_header(data: bytes) -> None:
    with Logged() as logged, serving_behind() as server:
        client = knock(server)
        client.send(data)
        cut_off(client)
        assert "invalid PROXY protocol header" in logged.find("connection from 127.0.0.1:").getMessage()
    assert server.statistics.refused == {"invalid PROXY header": 1}


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (LINE[:9], "connection from 127.0.0.1:50000 closed: no complete PROXY protocol header within 5 s"),
        (LINE, "opening handshake failed: timed out during opening handshake"),
    ],
    ids=["header", "request"],
)
def test_what_comes_too_late(data: bytes, line: str) -> None:
    async def scenario(world: Any) -> None:
        async with world.serve(echo, proxy_protocol=["127.0.0.1"], open_timeout=5) as server:
            peer = await world.reach(server)
            await peer.write(data)
            await world.advance(4.9)
            assert not peer.let_go
            await world.advance(0.2)
            assert peer.let_go
            assert server.statistics.refused == {"timeout": 1}

    with Logged() as logged:
        run_in_threads(scenario)
        assert line in logged.lines


def test_proxy_that_leaves() -> None:
    with Logged(level=logging.DEBUG) as logged, serving_behind() as server:
        knock(server).close()
        logged.find("= connection is CLOSED")
    assert server.statistics.refused == {"client gone": 1}


def test_arrivals_count() -> None:
    made = Made()
    with serving_behind(max_connections=1, create_connection=made) as server:
        with knock(server) as first:
            made.next()
            with knock(server) as second:
                made.next()
                second.send(LINE + request())
                assert second.read_until_eof().startswith(b"HTTP/1.1 503 ")
            first.send(LINE + request())
            opened(first)


def test_no_room_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made()
    monkeypatch.setattr("websockets._rules.capacity.WAITING_LIMIT", 0)
    with serving_behind(max_connections=1, create_connection=made) as server, knock(server) as first:
        made.next()
        cut_off(knock(server))
        first.send(LINE + request())
        opened(first)
    assert server.statistics.refused == {"too many connections to be told": 1}


def test_no_room_for_this_client_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit for a host counts from the header on."""
    monkeypatch.setattr("websockets._rules.capacity.WAITING_LIMIT", 0)
    with serving_behind(echo, max_connections_per_host=1) as server, knock(server) as first:
        first.send(LINE + request())
        first.read_until()
        second = knock(server)
        second.send(LINE)
        cut_off(second)
        first.leave()


def test_header_that_comes_during_the_shutdown() -> None:
    """The shutdown has listed the connections to refuse, and the header of one arrives before its turn."""
    made = Made()
    with serving_behind(create_connection=made) as server, knock(server) as first, knock(server) as second:
        connections = made.next(), made.next()

        class Late:
            """A logger of the server: the header arrives while it writes that the server closes."""

            def info(self, text: str, *arguments: Any) -> None:
                if text == "server closing":
                    second.send(LINE + request())
                    assert connections[1].wait_closed(30)

        server.logger = server._ws_shutdown._logger = Late()  # type: ignore[assignment]
        server.shutdown()
        cut_off(first)
        cut_off(second)
        for connection in connections:
            connection._ws_refuse_arrival(CLOSING)
    assert server.statistics.refused == {"server is shutting down": 2}


def test_a_header_without_a_proxy_before() -> None:
    with serving() as server:
        assert ask(server, LINE + request()).status == "400 Bad Request"
