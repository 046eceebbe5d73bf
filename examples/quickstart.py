"""A server and its clients in one process, which show all features of a WebSocket connection.

Run it with ``python examples/quickstart.py``; it prints each step and ends by itself.
"""

import asyncio
from collections.abc import AsyncIterator

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve

CLIENTS = 3


async def countdown() -> AsyncIterator[str]:
    """Yield the fragments of one message, slowly."""
    for number in ("three", "two", "one"):
        yield f"{number}... "
        await asyncio.sleep(0.05)
    yield "go!"


async def handler(websocket: ServerConnection) -> None:
    """Handle a connection of the server: count down if asked to, otherwise send messages back."""
    async for message in websocket:
        if message == "count down":
            await websocket.send(countdown())
        else:
            await websocket.send(message)


async def exchange_messages(websocket: ClientConnection) -> None:
    """A message is text if it is a str, binary if it is bytes."""
    await websocket.send("Hello!")
    print(f"text:       sent and received {await websocket.recv()!r}")
    await websocket.send(bytes(range(8)))
    print(f"binary:     sent and received {await websocket.recv()!r}")


async def exchange_fragments(websocket: ClientConnection) -> None:
    """An iterable is sent in fragments; the receiver gets the message whole, or fragments as they arrive."""
    await websocket.send(["one message, ", "sent in ", "fragments"])
    print(f"fragmented: received whole {await websocket.recv()!r}")
    await websocket.send("count down")
    async for fragment in websocket.recv_streaming():
        if fragment:  # the last one is empty, because an iterable doesn't announce its last item
            print(f"streaming:  received {fragment!r}")


async def measure_latency(websocket: ClientConnection) -> None:
    """A ping can be sent at any time; awaiting what it returns gives the round trip in seconds."""
    pong = await websocket.ping()
    print(f"ping:       pong after {await pong * 1000:.2f} ms")


async def broadcast_to_all(server: Server, uri: str) -> None:
    """Send one message to all connections."""
    clients = [await connect(uri) for _ in range(CLIENTS)]
    broadcast(server.connections, "news for everybody")
    for number, client in enumerate(clients, start=1):
        print(f"broadcast:  client {number} received {await client.recv()!r}")
    await asyncio.gather(*(client.close() for client in clients))


async def close(websocket: ClientConnection) -> None:
    """Either side may close; the other one learns the code and the reason, and sends them back."""
    await websocket.close(code=1000, reason="that was all")
    print(f"close:      {websocket.state.name} with {websocket.close_code} {websocket.close_reason!r}")


async def main() -> None:
    async with serve(handler, "127.0.0.1", 0) as server:
        (listening,) = server.sockets
        uri = f"ws://127.0.0.1:{listening.getsockname()[1]}"
        print(f"server:     listening on {uri}")
        async with connect(uri) as websocket:
            await exchange_messages(websocket)
            await exchange_fragments(websocket)
            await measure_latency(websocket)
            await close(websocket)
        await broadcast_to_all(server, uri)
    print("server:     closed")


if __name__ == "__main__":
    asyncio.run(main())
