"""Peer for libraries with the API of ``websockets``: ours, the reference implementation, and ``picows.websockets``.

Charter: adapts the public asyncio API to the contract; runs on either event loop, over TCP, TLS and Unix sockets.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib
import ssl
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any

from contract import Closed, Handler, Link, run_client, run_server


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """Make an event loop of a kind; uvloop is imported late because not every peer has it."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def library(package: str) -> str:
    """Name the library and its version. Ours may run from its sources, without metadata, but has a version module."""
    if package == "websockets":
        return f"websockets {importlib.import_module('websockets.version').version}"
    return f"{package} {version(package.partition('.')[0])}"


class WebSocketsLink:
    """A connection of the library."""

    def __init__(self, websocket: Any, closed: type[Exception], prepare: Any = None) -> None:
        self.websocket = websocket
        self.closed = closed
        self.prepare = prepare
        self.sent = 0

    @property
    def deflate(self) -> bool:
        extensions = self.websocket.response.headers.get("Sec-WebSocket-Extensions", "")
        return "permessage-deflate" in extensions

    async def send(self, message: str | bytes) -> None:
        self.sent += 1
        await self.websocket.send(self.prepare(message) if self.prepare and self.sent % 2 == 0 else message)

    async def receive(self) -> str | bytes:
        try:
            message: str | bytes = await self.websocket.recv()
        except self.closed:
            raise Closed(self.websocket.close_code, self.websocket.close_reason or "") from None
        return message

    async def ping(self, payload: bytes) -> None:
        await (await self.websocket.ping(payload))

    async def close(self, code: int, reason: str) -> int | None:
        await self.websocket.close(code, reason)
        close_code: int | None = self.websocket.close_code
        return close_code


async def connect(options: argparse.Namespace, uri: str, deflate: bool) -> Link:
    """Open a connection, over TCP, TLS or a Unix socket."""
    client = importlib.import_module(f"{options.package}.asyncio.client")
    exceptions = importlib.import_module(f"{options.package}.exceptions")
    arguments: dict[str, Any] = {"compression": "deflate" if deflate else None}
    if options.certificate:
        arguments["ssl"] = ssl.create_default_context(cafile=options.certificate)
    if options.unix:
        websocket = await client.unix_connect(options.unix, uri, **arguments)
    else:
        # Peers are on the loopback interface, whatever proxy the environment names.
        websocket = await client.connect(uri, proxy=None, **arguments)
    return WebSocketsLink(websocket, exceptions.ConnectionClosed)


async def serve(options: argparse.Namespace, stack: AsyncExitStack, handle: Handler) -> int:
    """Start a server that runs as long as ``stack``; return its port, 0 for a Unix socket."""
    server = importlib.import_module(f"{options.package}.asyncio.server")
    exceptions = importlib.import_module(f"{options.package}.exceptions")

    prepare = importlib.import_module(options.package).PreparedMessage if options.prepare else None

    async def handler(websocket: Any) -> None:
        await handle(WebSocketsLink(websocket, exceptions.ConnectionClosed, prepare), websocket.request.path)

    if options.unix:
        await stack.enter_async_context(server.unix_serve(handler, options.unix))
        return 0
    arguments: dict[str, Any] = {}
    if options.certificate:
        arguments["ssl"] = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        arguments["ssl"].load_cert_chain(options.certificate, options.key)
    running = await stack.enter_async_context(server.serve(handler, "127.0.0.1", 0, **arguments))
    port: int = running.sockets[0].getsockname()[1]
    return port


async def run(options: argparse.Namespace) -> None:
    """Run the role named on the command line."""
    name = library(options.package)
    if options.role == "client":
        await run_client(name, functools.partial(connect, options), options.uri)
        return
    async with AsyncExitStack() as stack:
        await run_server(name, functools.partial(serve, options, stack))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("uri", nargs="?")
    parser.add_argument("--package", default="websockets")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--certificate", help="PEM file: the server's certificate, which the client trusts")
    parser.add_argument("--key", help="PEM file with the server's private key")
    parser.add_argument("--unix", help="path of a Unix socket")
    parser.add_argument("--prepare", action="store_true", help="as a server, prepare every second message")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=lambda: new_event_loop(arguments.loop)) as runner:
        runner.run(run(arguments))
