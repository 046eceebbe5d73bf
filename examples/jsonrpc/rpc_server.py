"""A server whose clients call its methods. ``python examples/jsonrpc/rpc_server.py [port]``; Ctrl-C ends it."""

import asyncio
import sys

from rpc import Methods, Peer, RPCError

from websockets.asyncio.server import Server, ServerConnection, serve

DIVISION_BY_ZERO = 1


async def add(a: float, b: float) -> float:
    return a + b


async def divide(a: float, b: float) -> float:
    if b == 0:
        raise RPCError(DIVISION_BY_ZERO, "Division by zero", {"a": a})
    return a / b


async def sleep(seconds: float) -> str:
    """Take some time, while other requests are answered."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        print(f"stopped sleeping for {seconds} s: nobody waits any more", flush=True)
        raise
    return f"slept for {seconds} s"


async def handler(websocket: ServerConnection) -> None:
    async def greet() -> str:
        """The server may call, too."""
        return f"Hello, {await peer.call('name')}!"

    methods: Methods = {"add": add, "divide": divide, "sleep": sleep, "greet": greet}
    async with Peer(websocket, methods) as peer:
        await peer.wait_closed()


def rpc_server(host: str, port: int) -> Server:
    """Make a server with these methods; await it, or use it in ``async with``."""
    return serve(handler, host, port)


async def main(port: int) -> None:
    async with rpc_server("127.0.0.1", port) as server:
        for listening in server.sockets:
            print(f"listening on ws://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
