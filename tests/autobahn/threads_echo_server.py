"""Echo server in threads, driven by the Autobahn testsuite's fuzzing client.

Charter: as echo_server.py, with the public API for threads.
"""

from __future__ import annotations

import json
import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

# Section 9 sends messages of 16 MiB; nothing in the testsuite is longer.
MAX_SIZE = 2**25


def echo(websocket: ServerConnection) -> None:
    """Send each message back until the connection ends, for whatever reason: breaking it is the testsuite's job."""
    try:
        for message in websocket:
            websocket.send(message)
    except ConnectionClosed:
        pass


def main() -> None:
    """Serve on a free port until standard input ends."""
    with serve(echo, "127.0.0.1", 0, max_size=MAX_SIZE, ping_interval=None) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        print(json.dumps({"port": server.socket.getsockname()[1]}), flush=True)
        sys.stdin.read()
    serving.join()


if __name__ == "__main__":
    main()
