"""A chat room with threads: everybody gets what anybody says. ``python examples/threads_server.py [port]``

Each connection has a thread, which runs ``handler``. Ctrl-C or SIGTERM ends the server; its clients are told.
"""

import signal
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, broadcast, serve


def handler(websocket: ServerConnection) -> None:
    try:
        for message in websocket:
            # Nobody waits for a client that doesn't read.
            broadcast(websocket.server.connections, message, on_slow="close")
    except ConnectionClosed:
        print("a client has vanished", flush=True)


def main(port: int) -> None:
    with serve(handler, "127.0.0.1", port, max_connections=1000) as server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: server.shutdown())
        print(f"listening on ws://127.0.0.1:{server.socket.getsockname()[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765)
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
