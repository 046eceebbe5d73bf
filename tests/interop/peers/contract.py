"""What every peer program of the interoperability tests does, and how it talks to them.

Charter: defines the scenarios' meaning once for all peers written in Python; a peer only adapts its library to
``Link``. Knows no WebSocket library, and is not imported by the tests, which run peers as child processes because the
reference implementation has the same import name as ours.

The contract is JSON, one object a line. Every program first prints ``{"library": "name version"}``.

A server (arguments: ``server``) adds ``"port"`` to that line. Then it prints one line for each connection that ended,
``{"target": ..., "code": ..., "reason": ...}``; ``reason`` is left out if it closed the connection itself. It ends
when its standard input ends. The path of the request's target tells it how to behave:

* ``/echo``: send back each message;
* ``/ping``: send a ping, send the text ``pong`` once it is answered, then go on as ``/echo``;
* ``/close?code=3001&reason=bye``: close the connection at once.

A client (arguments: ``client URI``) reads scenarios from its standard input and answers each with one line. Members
of a scenario: ``target``; ``deflate``, whether to offer compression; ``ping``, a payload to send first, or null;
``send``, messages to exchange one by one; ``receive``, the number of messages to expect after that; ``close``, the
code and reason to close with, or null to wait until the server closes. A message is ``{"text": ..., "times": N}`` or
``{"hex": ..., "times": N}``. Members of an answer: ``target``; ``deflate``, whether compression was negotiated;
``received``, a description of each message; ``code`` and, if the server closed, ``reason``. If anything goes wrong,
there is ``error`` instead.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, Protocol
from urllib.parse import parse_qs, urlsplit

PING = b"are you there?"


class Closed(Exception):
    """The other side closed the connection, with this code and reason."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Link(Protocol):
    """One connection, as the scenarios see it, on either side."""

    @property
    def deflate(self) -> bool:
        """Whether compression was negotiated."""
        ...

    async def send(self, message: str | bytes) -> None:
        """Send a message."""
        ...

    async def receive(self) -> str | bytes:
        """Receive a message; raise ``Closed`` if the other side closed the connection instead."""
        ...

    async def ping(self, payload: bytes) -> None:
        """Send a ping and wait until it is answered."""
        ...

    async def close(self, code: int, reason: str) -> int | None:
        """Close the connection; return the code with which the other side answered."""
        ...


# Opens a connection to a URI, offering compression or not.
Connect = Callable[[str, bool], Awaitable[Link]]
# Attends to one connection, given the target of its request.
Handler = Callable[[Link, str], Coroutine[Any, Any, None]]
# Starts a server that calls a handler for each connection, and returns its port.
Serve = Callable[[Handler], Awaitable[int]]


def emit(**line: Any) -> None:
    """Print one line of the contract."""
    print(json.dumps(line), flush=True)


# --- server ---


async def echo(link: Link) -> NoReturn:
    """Send back each message until ``Closed`` is raised."""
    while True:
        await link.send(await link.receive())


async def process_events(link: Link, target: str) -> dict[str, Any]:
    """Behave on one connection as its target says; return how the connection was closed."""
    path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
    if path == "/close":
        return {"code": await link.close(int(query["code"][0]), query.get("reason", [""])[0])}
    try:
        if path == "/ping":
            await link.ping(PING)
            await link.send("pong")
        await echo(link)
    except Closed as exc:
        return {"code": exc.code, "reason": exc.reason}


async def handle(link: Link, target: str) -> None:
    """Attend to one connection and print how it ended."""
    try:
        emit(target=target, **await process_events(link, target))
    except Exception as exc:
        emit(target=target, error=repr(exc))


async def run_server(library: str, serve: Serve) -> None:
    """Serve until standard input ends."""
    emit(library=library, port=await serve(handle))
    await asyncio.to_thread(sys.stdin.read)


# --- client ---


def build(message: dict[str, Any]) -> str | bytes:
    """Make the message that a scenario describes."""
    times: int = message.get("times", 1)
    if "text" in message:
        return str(message["text"]) * times
    return bytes.fromhex(message["hex"]) * times


def describe(message: str | bytes) -> dict[str, Any]:
    """Describe a received message, which may be too long to print."""
    data = message.encode() if isinstance(message, str) else message
    kind = "text" if isinstance(message, str) else "binary"
    return {"type": kind, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


async def converse(link: Link, scenario: dict[str, Any]) -> list[dict[str, Any]]:
    """Do what a scenario says between opening and closing; return descriptions of the messages received."""
    received = []
    if scenario["ping"] is not None:
        await link.ping(scenario["ping"].encode())
    for message in scenario["send"]:
        await link.send(build(message))
        received.append(describe(await link.receive()))
    for _ in range(scenario["receive"]):
        received.append(describe(await link.receive()))
    return received


async def finish(link: Link, close: dict[str, Any] | None) -> dict[str, Any]:
    """Close the connection, or wait until the server does; return how it was closed."""
    if close is not None:
        return {"code": await link.close(close["code"], close["reason"])}
    try:
        unexpected = await link.receive()
    except Closed as exc:
        return {"code": exc.code, "reason": exc.reason}
    return {"error": f"received {describe(unexpected)} instead of a close"}


async def play(connect: Connect, uri: str, scenario: dict[str, Any]) -> dict[str, Any]:
    """Play one scenario on a connection of its own; return the answer for the tests."""
    try:
        link = await connect(uri + scenario["target"], scenario["deflate"])
        received = await converse(link, scenario)
        return {"deflate": link.deflate, "received": received, **await finish(link, scenario["close"])}
    except Exception as exc:
        return {"error": repr(exc)}


async def run_client(library: str, connect: Connect, uri: str) -> None:
    """Play scenarios until standard input ends."""
    emit(library=library)
    while line := await asyncio.to_thread(sys.stdin.readline):
        scenario = json.loads(line)
        emit(target=scenario["target"], **await play(connect, uri, scenario))


def main(library: str, connect: Connect, serve: Serve) -> None:
    """Run the role named on the command line."""
    match sys.argv[1:]:
        case ["server"]:
            asyncio.run(run_server(library, serve))
        case ["client", uri]:
            asyncio.run(run_client(library, connect, uri))
        case _:
            sys.exit(f"usage: {sys.argv[0]} server | client URI")
