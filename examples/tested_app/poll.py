"""A poll, with threads: who connects gets the counts, and gets them again whenever anybody votes.

``python poll.py [port]``
"""

import json
import signal
import sys
import threading
from collections import Counter

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, broadcast, serve


class Poll:
    """The counts, and who sees them."""

    def __init__(self) -> None:
        self.votes: Counter[str] = Counter()
        self.present: set[ServerConnection] = set()
        self._lock = threading.Lock()

    def handle(self, websocket: ServerConnection) -> None:
        """Serve one connection: the handler."""
        with self._lock:
            self.present.add(websocket)
            websocket.send(json.dumps(self.votes))
        try:
            for choice in websocket:
                with self._lock:
                    self.votes[str(choice)] += 1
                    broadcast(self.present, json.dumps(self.votes))
        except ConnectionClosed:
            pass  # it has vanished
        finally:
            with self._lock:
                self.present.discard(websocket)


def server(port: int) -> Server:
    return serve(Poll().handle, "127.0.0.1", port)


def main(port: int) -> None:
    with server(port) as running:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: running.shutdown())
        print(f"listening on ws://127.0.0.1:{running.socket.getsockname()[1]}", flush=True)
        running.serve_forever()


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765)
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
