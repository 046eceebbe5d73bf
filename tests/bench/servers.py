"""The servers that are measured: the same one in each library.

Charter: imports one library, as its users would, with its defaults but for two: compression is off unless it is what is
measured, and a message may have any size. Run as ``python -m bench.servers LIBRARY JOB``; it prints ``{"port": N}`` and
then obeys lines of JSON: ``{"broadcast": N}`` sends so many messages to everybody, ``{"cpu": true}`` is answered with
the CPU seconds that this process took. It ends when its standard input does.
"""

# pyright: reportMissingImports=false
# What is measured is installed where it runs, not where types are checked.

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from bench.bare import Bare
from bench.cases import Job
from bench.loops import run
from bench.streams import HOST, allow_many_files
from bench.wire import messages

# Sends one message to everybody.
Broadcast = Callable[[str], Awaitable[None]]
# Starts a server; gives its port, and what broadcasts.
Serve = Callable[[Job], Awaitable[tuple[int, Broadcast]]]


def context_of(job: Job) -> ssl.SSLContext | None:
    """What TLS needs, if it is asked for."""
    if job.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(job.certificate)
    return context


def port_of(server: Any) -> int:
    """Where an ``asyncio.Server``, or what looks like one, listens."""
    port: int = server.sockets[0].getsockname()[1]
    return port


# ------------------------------------------------------------------------------------------------------------ libraries


async def serve_websockets(job: Job, package: str = "websockets") -> tuple[int, Broadcast]:
    """This library, and those with the same interface."""
    server = import_module(f"{package}.asyncio.server")
    peers: set[Any] = set()

    async def echo(websocket: Any) -> None:
        async for message in websocket:
            await websocket.send(message)

    async def listen(websocket: Any) -> None:
        peers.add(websocket)
        await websocket.wait_closed()

    async def broadcast(message: str) -> None:
        server.broadcast(peers, message)

    options = {} if job.case.deflate else {"compression": None}
    handler = listen if job.case.kind == "broadcast" else echo
    return port_of(await server.serve(handler, HOST, 0, max_size=None, ssl=context_of(job), **options)), broadcast


async def serve_picows_websockets(job: Job) -> tuple[int, Broadcast]:
    return await serve_websockets(job, "picows.websockets")


async def serve_picows(job: Job) -> tuple[int, Broadcast]:
    """The core of picows: callbacks for frames, which it neither joins nor checks for UTF-8."""
    import picows

    transports: set[Any] = set()

    class Echo(picows.WSListener):  # type: ignore[misc]
        def on_ws_connected(self, transport: Any) -> None:
            transports.add(transport)

        def on_ws_disconnected(self, transport: Any) -> None:
            transports.discard(transport)

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == picows.WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    async def broadcast(message: str) -> None:
        data = message.encode()
        for transport in transports:
            transport.send(picows.WSMsgType.TEXT, data)

    server = await picows.ws_create_server(
        lambda request: Echo(), HOST, 0, ssl=context_of(job), max_frame_size=1 << 30
    )  # fmt: skip
    return port_of(server), broadcast


async def serve_aiohttp(job: Job) -> tuple[int, Broadcast]:
    from aiohttp import WSMsgType, web

    peers: set[Any] = set()

    async def handler(request: Any) -> Any:
        websocket = web.WebSocketResponse(compress=job.case.deflate, max_msg_size=0)
        await websocket.prepare(request)
        peers.add(websocket)
        async for message in websocket:
            if message.type == WSMsgType.TEXT:
                await websocket.send_str(message.data)
        peers.discard(websocket)
        return websocket

    async def broadcast(message: str) -> None:
        for websocket in peers:
            await websocket.send_str(message)

    app = web.Application()
    app.router.add_get("/", handler)
    # Without this each handshake is written to a log that nobody reads.
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, ssl_context=context_of(job)).start()
    port: int = runner.addresses[0][1]
    return port, broadcast


async def serve_bare(job: Job) -> tuple[int, Broadcast]:
    """No library at all."""

    async def broadcast(message: str) -> None:
        raise NotImplementedError

    loop = asyncio.get_running_loop()
    return port_of(await loop.create_server(lambda: Bare(job.case), HOST, 0, ssl=context_of(job))), broadcast


LIBRARIES: dict[str, Serve] = {
    "websockets": serve_websockets,
    "picows.websockets": serve_picows_websockets,
    "picows": serve_picows,
    "aiohttp": serve_aiohttp,
    "bare": serve_bare,
}


# ------------------------------------------------------------------------------------------------------------ obedience


async def obey(job: Job, serve: Serve) -> None:
    """Serve, and do what the lines on standard input say."""
    port, broadcast = await serve(job)
    orders: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    # A thread that waits costs nothing, and works with every loop and on every system.
    reader = threading.Thread(target=read_orders, args=(asyncio.get_running_loop(), orders), daemon=True)
    reader.start()
    print(json.dumps({"port": port}), flush=True)
    (message,) = messages(job.case.size, 1)
    while True:
        order = await orders.get()
        if "cpu" in order:
            print(json.dumps({"cpu": time.process_time()}), flush=True)
        for _ in range(order.get("broadcast", 0)):
            await broadcast(message)
            # As in a server that does something else too.
            await asyncio.sleep(0)


def read_orders(loop: asyncio.AbstractEventLoop, orders: asyncio.Queue[dict[str, Any]]) -> None:
    """Pass on what the parent says; without a parent there is nothing to live for."""
    for line in sys.stdin:
        loop.call_soon_threadsafe(orders.put_nowait, json.loads(line))
    os._exit(0)


def main() -> None:
    allow_many_files()
    job = Job.from_json(sys.argv[2])
    run(obey(job, LIBRARIES[sys.argv[1]]), job.loop)


if __name__ == "__main__":
    main()
