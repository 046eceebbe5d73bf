"""JSON-RPC 2.0 on a WebSocket: calls in both directions, many at a time, on one connection.

Each message is a request, a notification, a response, or a batch of them: https://www.jsonrpc.org/specification. To
cancel a request, this follows language servers: the notification ``$/cancelRequest`` with the ``id`` of a request means
that nobody waits for its result any more; the answer is then error -32800.
"""

import asyncio
import contextlib
import inspect
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
CANCELLED = -32800
TOO_MANY_REQUESTS = -32000  # from here to -32099, implementations define the codes

CANCEL = "$/cancelRequest"

Methods = Mapping[str, Callable[..., Awaitable[Any]]]

logger = logging.getLogger(__name__)


class RPCError(Exception):
    """A call raises this if it is answered with an error; a method raises it to answer with one.

    Parameters:
        code: number of the error.
        message: one sentence about the error.
        data: details, which can be JSON.
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class Peer:
    """One end of a connection that speaks JSON-RPC; both ends may call. Use it in ``async with``, which closes it.

    Parameters:
        websocket: the connection; no other task may read from it.
        methods: coroutine functions that the other end may call, by name.
        limit: how many of the other end's requests may run at the same time; more are refused.
    """

    def __init__(self, websocket: Connection, methods: Methods, limit: int = 100) -> None:
        self.websocket = websocket
        self.methods = methods
        self.limit = limit
        self._numbers = itertools.count(1)
        self._calls: dict[object, asyncio.Future[Any]] = {}  # ours, by id
        self._running: dict[object, asyncio.Future[Any]] = {}  # theirs, by id
        self._busy = 0  # theirs, including those that have no id
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.websocket.close()
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed, and all requests of the other end have finished."""
        await asyncio.shield(self._reading)

    # --- calling

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the other end, with arguments by position or by name, and wait for the result.

        Put it into ``asyncio.timeout()`` to limit the time. If the wait ends early, the other end stops working on it.

        Raises:
            RPCError: the other end answered with an error.
            ConnectionClosed: the connection was closed before there was an answer.
        """
        number = next(self._numbers)
        self._calls[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send(json.dumps({**_request(method, args, kwargs), "id": number}))
            return await self._calls[number]
        except asyncio.CancelledError:
            with contextlib.suppress(ConnectionClosed):
                await self.notify(CANCEL, id=number)
            raise
        finally:
            del self._calls[number]

    async def notify(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Call a method of the other end without an answer."""
        await self._send(json.dumps(_request(method, args, kwargs)))

    async def _send(self, text: str) -> None:
        await self.websocket.send(text)

    # --- being called

    async def _read(self) -> None:
        """Handle messages of the other end until the connection is closed; then end all calls, ours and theirs."""
        try:
            while True:
                await self._take(await self.websocket.recv())
        except ConnectionClosed as exc:
            for call in self._calls.values():
                if not call.done():
                    call.set_exception(exc)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _take(self, text: str | bytes) -> None:
        try:
            message = json.loads(text)
        except ValueError as exc:
            await self._send(_failure(None, RPCError(PARSE_ERROR, "Parse error", str(exc))))
            return
        # An empty batch is an invalid request.
        in_batch = isinstance(message, list) and bool(message)
        requests = [item for item in (message if in_batch else [message]) if not self._settle(item)]
        if self._busy + len(requests) > self.limit:
            # Send from here, to stop reading from a peer that doesn't read its answers.
            refusal = RPCError(TOO_MANY_REQUESTS, "Too many requests")
            numbers = [number for number in map(_id, requests) if number is not None]
            await self._reply(in_batch, [_failure(number, refusal) for number in numbers])
        else:
            self._begin(self._work(in_batch, requests), len(requests))

    def _begin(self, work: Coroutine[Any, Any, None], count: int) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        self._busy += count

        def end(task: asyncio.Task[None]) -> None:
            self._tasks.remove(task)
            self._busy -= count

        task.add_done_callback(end)

    def _settle(self, item: Any) -> bool:
        """Whether a message needs no work: it answers a call of ours, or stops a call of theirs."""
        match item:
            case {"id": number, "result": result} if "method" not in item:
                if (call := self._calls.get(number)) and not call.done():
                    call.set_result(result)
            case {"id": number, "error": {"code": int(code), "message": str(text), **more}} if "method" not in item:
                if (call := self._calls.get(number)) and not call.done():
                    call.set_exception(RPCError(code, text, more.get("data")))
            case {"method": method, "params": {"id": str() | int() as number}} if method == CANCEL:
                if work := self._running.get(number):
                    work.cancel()
            case _:
                return False
        return True

    async def _work(self, in_batch: bool, requests: list[Any]) -> None:
        answers = await asyncio.gather(*map(self._answer, requests))
        with contextlib.suppress(ConnectionClosed):
            await self._reply(in_batch, [answer for answer in answers if answer is not None])

    async def _reply(self, in_batch: bool, answers: list[str]) -> None:
        if answers:
            await self._send(f"[{','.join(answers)}]" if in_batch else answers[0])

    async def _answer(self, request: Any) -> str | None:
        """Return the answer to a request; None for a notification."""
        number = _id(request)
        try:
            work = asyncio.ensure_future(self._invoke(request))
            if number is not None:
                self._running[number] = work
            answer = json.dumps({"jsonrpc": "2.0", "result": await work, "id": number})
        except RPCError as exc:
            answer = _failure(number, exc)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) and task.cancelling():
                raise  # the connection is closed; otherwise it was only this request
            answer = _failure(number, RPCError(CANCELLED, "Request cancelled"))
        except Exception:
            # Don't tell the other end what went wrong in here.
            logger.exception("method failed: %s", request["method"])
            answer = _failure(number, RPCError(INTERNAL_ERROR, "Internal error"))
        finally:
            self._running.pop(number, None)
        return None if _is_notification(request) else answer

    async def _invoke(self, request: Any) -> Any:
        match request:
            case {"jsonrpc": "2.0", "method": str(name)} if _id(request) is not None or "id" not in request:
                method, params = self.methods.get(name), request.get("params", [])
            case _:
                raise RPCError(INVALID_REQUEST, "Invalid Request")
        if method is None:
            raise RPCError(METHOD_NOT_FOUND, "Method not found", name)
        if not isinstance(params, list | dict):
            raise RPCError(INVALID_PARAMS, "Invalid params", "params must be an array or an object")
        args, kwargs = ([], params) if isinstance(params, dict) else (params, {})
        try:
            inspect.signature(method).bind(*args, **kwargs)
        except TypeError as exc:
            raise RPCError(INVALID_PARAMS, "Invalid params", str(exc)) from exc
        return await method(*args, **kwargs)


def _request(method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    if args and kwargs:
        raise TypeError("arguments are passed by position or by name, not both")
    return {"jsonrpc": "2.0", "method": method, "params": kwargs or args}


def _failure(number: object, error: RPCError) -> str:
    about = {"code": error.code, "message": error.message}
    if error.data is not None:
        about["data"] = error.data
    return json.dumps({"jsonrpc": "2.0", "error": about, "id": number})


def _id(request: Any) -> str | int | None:
    """Return the id of a request; None if it has none, or an invalid one."""
    number = request.get("id") if isinstance(request, dict) else None
    return number if isinstance(number, str | int) else None


def _is_notification(request: Any) -> bool:
    return isinstance(request, dict) and isinstance(request.get("method"), str) and "id" not in request
