"""An echo server with TLS, which loads a renewed certificate without a restart.

``python server.py CERT KEY [PORT]``; SIGHUP makes it read both files again.
"""

import asyncio
import signal
import ssl
import sys

from websockets.asyncio.server import ServerConnection, serve


async def echo(websocket: ServerConnection) -> None:
    async for message in websocket:
        await websocket.send(message)


async def main(cert: str, key: str, port: int) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)

    def reload() -> None:
        # Open connections keep what they agreed on; new ones get the new certificate.
        try:
            context.load_cert_chain(cert, key)
        except (OSError, ssl.SSLError) as exc:
            print(f"the certificate stays as it was: {exc}", flush=True)
        else:
            print("certificate loaded", flush=True)

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(echo, "127.0.0.1", port, ssl=context) as server:
        for listening in server.sockets:
            print(f"listening on wss://localhost:{listening.getsockname()[1]}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 8443))
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
