"""Clients as typed programs write them; nothing here runs: see test_typing.py.

Where a type checker must complain, a comment says so: mypy complains of comments that nothing needs.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterator
from typing import Any, assert_type

import websockets
from websockets import Headers, connect
from websockets.asyncio.client import ClientConnection, process_exception, unix_connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.extensions import ClientExtensionFactory
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Close, CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Data, LoggerLike, Origin, Subprotocol


async def receive(connection: ClientConnection) -> None:
    assert_type(await connection.recv(), str | bytes)
    assert_type(await connection.recv(decode=None), str | bytes)
    assert_type(await connection.recv(decode=True), str)
    assert_type(await connection.recv(True), str)
    assert_type(await connection.recv(decode=False), bytes)
    assert_type(await connection.recv(False), bytes)
    async for message in connection:
        assert_type(message, str | bytes)


async def receive_fragments(connection: ClientConnection, decode: bool | None) -> None:
    async for fragment in connection.recv_streaming():
        assert_type(fragment, str | bytes)
    async for text in connection.recv_streaming(decode=True):
        assert_type(text, str)
    async for data in connection.recv_streaming(decode=False):
        assert_type(data, bytes)
    async for either in connection.recv_streaming(decode):
        assert_type(either, str | bytes)


async def lines() -> AsyncIterator[str]:
    yield "a line"


def numbers() -> Iterator[bytes]:
    yield b"1"


async def send(connection: ClientConnection, stream: AsyncIterable[bytes], data: Data) -> None:
    await connection.send("text")
    await connection.send(b"binary")
    await connection.send(bytearray(b"binary"))
    await connection.send(memoryview(b"binary"))
    await connection.send(data)
    await connection.send(["a", "b"])
    await connection.send((b"a", b"b"))
    await connection.send(lines())
    await connection.send(numbers())
    await connection.send(stream)
    await connection.send(b"text", text=True)
    await connection.send(42)  # type: ignore[arg-type]
    await connection.send(["a", 42])  # type: ignore[list-item]
    await connection.send("text", True)  # type: ignore[call-arg]


async def control(connection: ClientConnection) -> None:
    waiter = await connection.ping()
    assert_type(await waiter, float)
    await (await connection.ping("text"))
    await connection.pong(b"data")
    await connection.close()
    await connection.close(1001, "going away")
    await connection.close(CloseCode.GOING_AWAY, reason="going away")
    await connection.wait_closed()


def ask(connection: ClientConnection) -> None:
    assert_type(connection.state, State)
    assert_type(connection.latency, float)
    assert_type(connection.request, Request | None)
    assert_type(connection.response, Response | None)
    assert_type(connection.subprotocol, Subprotocol | None)
    assert_type(connection.close_code, int | None)
    assert_type(connection.close_reason, str | None)
    assert_type(connection.id.hex, str)
    host, port = connection.remote_address[:2]
    print(host, port, connection.no_such_attribute)  # type: ignore[attr-defined]


async def three_uses(uri: str) -> None:
    assert_type(await connect(uri), ClientConnection)
    async with connect(uri) as connection:
        assert_type(connection, ClientConnection)
    async for connection in connect(uri):
        assert_type(connection, ClientConnection)
        try:
            await receive(connection)
        except websockets.ConnectionClosed:
            continue
    async with unix_connect("/run/socket", uri) as connection:
        assert_type(connection, ClientConnection)


def delays() -> Generator[float, None, None]:
    yield 1.0


def fatal(exc: Exception) -> Exception | None:
    return None if isinstance(exc, OSError) else process_exception(exc)


class Mine(ClientConnection):
    """A connection with an attribute of its own."""

    attribute = "mine"


async def options(uri: str, logger: LoggerLike, extensions: list[ClientExtensionFactory]) -> None:
    connect(uri, origin=Origin("https://example.com"), subprotocols=[Subprotocol("chat")])
    connect(uri, extensions=extensions, compression=None)
    connect(uri, extensions=[ClientPerMessageDeflateFactory(compress_settings={"level": 1})])
    connect(uri, additional_headers={"Authorization": "Bearer token"}, user_agent_header=None)
    connect(uri, additional_headers=[("Cookie", "a=b"), ("Cookie", "c=d")])
    connect(uri, additional_headers=Headers(Cookie="a=b"))
    connect(uri, proxy=None)
    connect(uri, proxy=True)
    connect(uri, proxy="http://proxy:8080")
    connect(uri, open_timeout=None, ping_interval=None, ping_timeout=5, close_timeout=1.5)
    connect(uri, max_size=None, max_queue=(16, 4), write_limit=2**16)
    connect(uri, max_size=(2**20, 2**16), max_queue=None, write_limit=(2**16, 2**14))
    connect(uri, process_exception=fatal, reconnect_delays=delays)
    connect(uri, logger=logging.getLogger("mine"))
    connect(uri, logger=logging.LoggerAdapter(logging.getLogger("mine"), {}))
    connect(uri, logger=logger, create_connection=Mine)
    connect(uri, ssl=ssl.create_default_context(), server_hostname="example.com", local_addr=("", 0))
    connect(uri, proxy=False)  # type: ignore[arg-type]
    connect(uri, origin=42)  # type: ignore[arg-type]
    connect(b"ws://localhost")  # type: ignore[arg-type]


async def fail(uri: str) -> None:
    try:
        await connect(uri)
    except InvalidStatus as exc:
        assert_type(exc.response, Response)
        assert_type(exc.response.status_code, int)
        assert_type(exc.response.headers["Location"], str)
    except ConnectionClosedError as closed:
        assert_type(closed.rcvd, Close | None)
        assert_type(closed.rcvd_then_sent, bool | None)


def names() -> tuple[Any, ...]:
    """Submodules are attributes of the package, and names that don't exist are mistakes."""
    assert_type(websockets.__version__, str)
    assert issubclass(websockets.exceptions.ConnectionClosedOK, ConnectionClosed)
    print(websockets.asyncio.client.connect, websockets.frames.Opcode, websockets.extensions.permessage_deflate)
    return (
        websockets.no_such_name,  # type: ignore[attr-defined]
        websockets.exceptions.NoSuchError,  # type: ignore[attr-defined]
        websockets.asyncio.nothing,  # type: ignore[attr-defined]
    )
