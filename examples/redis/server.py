"""One chat on several machines: Redis passes each message on to the clients of all servers.

``python server.py PORT``; the environment variable ``REDIS_URL`` tells where Redis is.
"""

# pyright: reportMissingImports=false

import asyncio
import os
import signal
import socket
import sys

import redis.asyncio
from redis.exceptions import ConnectionError, TimeoutError

from websockets.asyncio.server import ServerConnection, broadcast, serve

CHANNEL = "chat"

# Notice within half a minute that the machine of Redis is gone. These names are Linux's.
KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 4}

clients: set[ServerConnection] = set()


async def relay(store: redis.asyncio.Redis, subscribed: asyncio.Event) -> None:
    """Send all published messages to the clients of this process, for ever."""
    while True:
        try:
            async with store.pubsub() as subscription:
                await subscription.subscribe(CHANNEL)
                async for event in subscription.listen():
                    if event["type"] == "message":
                        broadcast(clients, event["data"].decode(errors="replace"))
                    elif event["type"] == "subscribe":
                        # The Redis client may also have reconnected by itself.
                        await send_away()
                        subscribed.set()
        except (ConnectionError, TimeoutError) as exc:
            print(f"Redis is away: {exc}", flush=True)
            subscribed.clear()
            await send_away()
            await asyncio.sleep(1)


async def send_away() -> None:
    """Close all connections, to tell these clients that they may have missed messages."""
    await asyncio.gather(*(client.close(1013, "messages may be missing") for client in clients))


async def main(port: int, url: str) -> None:
    subscribed = asyncio.Event()
    store = redis.asyncio.Redis.from_url(url, socket_keepalive=True, socket_keepalive_options=KEEPALIVE)

    async def chat(websocket: ServerConnection) -> None:
        if not subscribed.is_set():
            await websocket.close(1013, "no connection to the others")
            return
        clients.add(websocket)
        try:
            async for message in websocket:
                await store.publish(CHANNEL, message)
        except (ConnectionError, TimeoutError):
            await websocket.close(1013, "message not delivered")
        finally:
            clients.discard(websocket)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with store, serve(chat, "127.0.0.1", port) as server:
        relaying = asyncio.create_task(relay(store, subscribed))
        await subscribed.wait()
        for listening in server.sockets:
            print(f"listening on ws://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        await stop.wait()
        relaying.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(main(int(sys.argv[1]), os.environ.get("REDIS_URL", "redis://localhost:6379")))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
