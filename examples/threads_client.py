"""Talk to a server from two threads: one prints what arrives, one sends the lines of the standard input.

``python examples/threads_client.py [uri]``; the end of the input ends it, and so does the server.
"""

import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect


def show(websocket: ClientConnection) -> None:
    """Print messages until the connection is closed, by whichever side."""
    try:
        for message in websocket:
            print(message, flush=True)
    except ConnectionClosed as exc:
        print(f"connection lost: {exc}", file=sys.stderr)


def main(uri: str) -> None:
    with connect(uri) as websocket:
        showing = threading.Thread(target=show, args=(websocket,))
        showing.start()
        try:
            for line in sys.stdin:
                websocket.send(line.rstrip("\n"))
        except ConnectionClosed:
            pass  # the other thread says why
    # Leaving the block has closed the connection, and that ends the loop of the other thread.
    showing.join()


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8765")
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
