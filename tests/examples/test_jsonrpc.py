"""JSON-RPC: the examples of its specification, concurrent calls, errors, timeouts, the end of the connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import rpc_client
from rpc import CANCEL, CANCELLED, INTERNAL_ERROR, METHOD_NOT_FOUND, TOO_MANY_REQUESTS, Peer, RPCError
from rpc_server import DIVISION_BY_ZERO, rpc_server

from _kit import idle, virtual
from examples.visits import hear, tell, uri
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


@contextlib.asynccontextmanager
async def calling(**methods: Any) -> AsyncIterator[Peer]:
    """A peer of the server of the example."""
    async with rpc_server("127.0.0.1", 0) as server, connect(uri(server, "/")) as websocket:
        async with Peer(websocket, methods) as peer:
            yield peer


class Log:
    """Methods that note what becomes of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def note(self, text: str) -> None:
        self.lines.append(text)

    async def subtract(self, minuend: int, subtrahend: int) -> int:
        return minuend - subtrahend

    async def hang(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.lines.append("stopped")

    async def fail(self) -> None:
        raise LookupError("a secret")

    async def unspeakable(self) -> object:
        return object()

    @property
    def methods(self) -> dict[str, Any]:
        names = ("note", "subtract", "hang", "fail", "unspeakable")
        return {name: getattr(self, name) for name in names}


@contextlib.asynccontextmanager
async def raw(log: Log, limit: int = 100) -> AsyncIterator[ClientConnection]:
    """A connection to a peer with these methods; what is on it is for the test to say."""

    async def handler(websocket: ServerConnection) -> None:
        async with Peer(websocket, log.methods, limit) as peer:
            await peer.wait_closed()

    async with serve(handler, "127.0.0.1", 0) as server, connect(uri(server, "/")) as websocket:
        yield websocket


def result(value: Any, number: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "result": value, "id": number}


def error(code: int, message: str, number: Any, data: Any = None) -> dict[str, Any]:
    about = {"code": code, "message": message}
    return {"jsonrpc": "2.0", "error": about if data is None else {**about, "data": data}, "id": number}


def request(method: Any, params: Any = None, **more: Any) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "method": method, **more}
    return message if params is None else {**message, "params": params}


# ---------------------------------------------------------------------------------------------- what the server is sent

INVALID = error(-32600, "Invalid Request", None)

ANSWERS: list[tuple[Any, Any]] = [
    (request("subtract", [42, 23], id=1), result(19, 1)),
    (request("subtract", {"subtrahend": 23, "minuend": 42}, id="x"), result(19, "x")),
    (request("foobar", id="1"), error(-32601, "Method not found", "1", "foobar")),
    (request(1, "bar"), INVALID),
    (request("subtract", [1, 2], id=None), INVALID),
    (request("subtract", [1, 2], id={}), INVALID),
    ({"method": "subtract", "params": [1, 2], "id": 1}, error(-32600, "Invalid Request", 1)),
    (1, INVALID),
    ([], INVALID),
    ([1, 2], [INVALID, INVALID]),
    ([request("note", ["x"]), request("subtract", [42, 23], id="2")], [result(19, "2")]),
    (request("subtract", [1], id=1), error(-32602, "Invalid params", 1, "missing a required argument: 'subtrahend'")),
    (request("subtract", {"c": 1}, id=1), error(-32602, "Invalid params", 1, "missing a required argument: 'minuend'")),
    (request("subtract", 1, id=1), error(-32602, "Invalid params", 1, "params must be an array or an object")),
    (request("fail", id=1), error(-32603, "Internal error", 1)),
    (request("unspeakable", id=1), error(-32603, "Internal error", 1)),
]


@pytest.mark.parametrize(("message", "answer"), ANSWERS)
@virtual
async def test_answer(message: Any, answer: Any) -> None:
    async with raw(Log()) as websocket:
        await tell(websocket, message)
        assert await hear(websocket) == answer


@pytest.mark.parametrize("text", ['{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', "[1,", "", b"\xff"])
@virtual
async def test_no_json(text: str | bytes) -> None:
    async with raw(Log()) as websocket:
        await websocket.send(text)
        answer = await hear(websocket)
        assert (answer["error"]["code"], answer["id"]) == (-32700, None)


@virtual
async def test_notifications_are_not_answered() -> None:
    log = Log()
    async with raw(log) as websocket:
        await tell(websocket, request("note", ["alone"]))
        await tell(websocket, [request("note", ["in"]), request("note", ["a batch"])])
        for method in ("foobar", "fail"):
            await tell(websocket, request(method))
        await tell(websocket, request("note", []))
        # Answers to nothing that was asked, and an end to nothing that runs.
        for stray in (result(1, 99), error(1, "stray", 99), request(CANCEL, {"id": 99})):
            await tell(websocket, stray)
        await tell(websocket, request("note", ["last"], id=1))
        assert await hear(websocket) == result(None, 1)
    assert log.lines == ["alone", "in", "a batch", "last"]


@virtual
async def test_failure_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async with raw(Log()) as websocket:
        await tell(websocket, request("fail", id=1))
        assert "secret" not in str(await websocket.recv())
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert (record.name, record.getMessage()) == ("rpc", "method failed: fail")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


@virtual
async def test_limit() -> None:
    log = Log()
    async with raw(log, limit=2) as websocket:
        refused = [error(TOO_MANY_REQUESTS, "Too many requests", 3)]
        await tell(websocket, [request("hang", id=1), request("hang")])
        await tell(websocket, request("subtract", [2, 1], id=3))
        assert await hear(websocket) == refused[0]
        await tell(websocket, [request("subtract", [2, 1], id=3), request("note", ["x"])])
        assert await hear(websocket) == refused
    assert log.lines == ["stopped", "stopped"]


@virtual
async def test_cancelled_request_is_answered() -> None:
    log = Log()
    async with raw(log) as websocket:
        await tell(websocket, [request("hang", id="a"), request("subtract", [2, 1], id="b")])
        await idle()
        await tell(websocket, request(CANCEL, {"id": "a"}))
        assert await hear(websocket) == [error(CANCELLED, "Request cancelled", "a"), result(1, "b")]
    assert log.lines == ["stopped"]


# ---------------------------------------------------------------------------------------------------- between two peers


@virtual
async def test_concurrent_calls() -> None:
    async with calling() as peer:
        loop = asyncio.get_running_loop()
        before = loop.time()
        sleeping = [asyncio.create_task(peer.call("sleep", seconds)) for seconds in (3, 1, 2)]
        assert await peer.call("add", 1, 2) == 3
        assert loop.time() == before
        assert await asyncio.gather(*sleeping) == ["slept for 3 s", "slept for 1 s", "slept for 2 s"]
        assert loop.time() == before + 3


@virtual
async def test_errors() -> None:
    async with calling() as peer:
        with pytest.raises(RPCError, match=r"^Division by zero \(1\)$") as caught:
            await peer.call("divide", a=1, b=0)
        assert (caught.value.code, caught.value.data) == (DIVISION_BY_ZERO, {"a": 1})
        with pytest.raises(RPCError, match="Method not found") as caught:
            await peer.call("foobar")
        assert caught.value.code == METHOD_NOT_FOUND
        # The server has no method for it, and neither had we.
        with pytest.raises(RPCError) as caught:
            await peer.call("greet")
        assert caught.value.code in (METHOD_NOT_FOUND, INTERNAL_ERROR)


@virtual
async def test_timeout_stops_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    async with calling() as peer:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await peer.call("sleep", 60)
        await idle()
        assert capsys.readouterr().out == "stopped sleeping for 60 s: nobody waits any more\n"
        # The connection goes on.
        assert await peer.call("add", 1, 2) == 3


@virtual
async def test_closing_ends_calls_and_work() -> None:
    log = Log()

    async def handler(websocket: ServerConnection) -> None:
        async with Peer(websocket, log.methods) as peer:
            await peer.call("hang")

    async with serve(handler, "127.0.0.1", 0) as server, connect(uri(server, "/")) as websocket:
        async with Peer(websocket, log.methods) as peer:
            calling = asyncio.create_task(peer.call("hang"))
            await idle()
            await websocket.close()
            with pytest.raises(ConnectionClosed):
                await calling
            with pytest.raises(ConnectionClosed):
                await peer.call("note", "late")
    assert log.lines == ["stopped", "stopped"]


@virtual
async def test_arguments_of_both_kinds() -> None:
    async with calling() as peer:
        with pytest.raises(TypeError, match="by position or by name"):
            await peer.call("add", 1, b=2)


@virtual
async def test_client(capsys: pytest.CaptureFixture[str]) -> None:
    async with rpc_server("127.0.0.1", 0) as server:
        before = asyncio.get_running_loop().time()
        await rpc_client.main(uri(server, "/"))
        assert asyncio.get_running_loop().time() == pytest.approx(before + 0.3)
    assert capsys.readouterr().out.splitlines() == [
        "add:     3",
        "by name: 0.125",
        "at once: 50 calls of 0.2 s each",
        "error:   Division by zero (1) {'a': 1}",
        "timeout: gave up, and told the server",
        "stopped sleeping for 60 s: nobody waits any more",
        "both ways: Hello, Ada!",
    ]
