"""An echo server for containers: it ends in order on SIGTERM, and answers the checks of whoever runs it.

``python server.py`` listens on all interfaces, at the port in the environment variable ``PORT``, 8765 by default.
"""

import asyncio
import http
import os
import signal
import sys

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

PORT = int(os.environ.get("PORT", "8765"))

# Seconds between SIGTERM and the closing of connections. Until then new clients may still come, because load balancers
# hear later than the server that it goes away.
DRAIN = float(os.environ.get("DRAIN", "0"))

# Seconds for handlers to end. DRAIN and this, and two seconds, must be less than the time after which the container is
# killed: 10 seconds with Docker, 30 on Kubernetes.
CLOSE = float(os.environ.get("CLOSE", "7"))


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def main() -> None:
    stop = asyncio.Event()

    def answer_checks(connection: ServerConnection, request: Request) -> Response | None:
        """Say whether this process works, and whether it wants new clients; None lets a client connect."""
        if request.path == "/health":
            return connection.respond(http.HTTPStatus.OK, "I'm fine.\n")
        if request.path == "/ready":
            if stop.is_set():
                return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "I'm leaving.\n")
            return connection.respond(http.HTTPStatus.OK, "I'm ready.\n")
        return None

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # An empty host means all interfaces: nobody outside of the container can reach "localhost".
    async with serve(echo, "", PORT, process_request=answer_checks) as server:
        print(f"listening on port {PORT}", flush=True)
        await stop.wait()
        await asyncio.sleep(DRAIN)
        # Clients get 1001, "going away", and reconnect to another container.
        server.close(timeout=CLOSE)
        await server.wait_closed()
    print("stopped", flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
