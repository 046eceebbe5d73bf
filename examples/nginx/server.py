"""An echo server behind a reverse proxy, which knows the address of the client.

``python server.py PORT...``: one port or several, for a proxy that balances connections.
"""

import asyncio
import contextlib
import http
import ipaddress
import signal
import sys

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

# Only X-Forwarded-For of these addresses is believed: our own proxies.
TRUSTED = [ipaddress.ip_network(network) for network in ("127.0.0.0/8", "::1/128", "10.0.0.0/8")]


def is_ours(address: str) -> bool:
    """Whether an address belongs to one of our proxies."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in TRUSTED)


def client_address(websocket: ServerConnection) -> str:
    """The address of the client: from the right, the first that isn't one of our proxies."""
    assert websocket.request is not None
    address: str = websocket.remote_address[0]
    values = websocket.request.headers.get_all("X-Forwarded-For")
    hops = [hop.strip() for value in values for hop in value.split(",")]
    while hops and is_ours(address):
        address = hops.pop()
    return address


def answer_health_check(connection: ServerConnection, request: Request) -> Response | None:
    """Answer the health check of a proxy; None lets all other requests open connections."""
    return connection.respond(http.HTTPStatus.OK, "I'm fine.\n") if request.path == "/health" else None


async def echo(websocket: ServerConnection) -> None:
    print(f"client {client_address(websocket)}", flush=True)
    async for message in websocket:
        await websocket.send(message)


async def main(ports: list[int]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with contextlib.AsyncExitStack() as servers:
        for port in ports:
            serving = serve(echo, "127.0.0.1", port, process_request=answer_health_check)
            server = await servers.enter_async_context(serving)
            for listening in server.sockets:
                print(f"listening on ws://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    try:
        asyncio.run(main([int(port) for port in sys.argv[1:]]))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
