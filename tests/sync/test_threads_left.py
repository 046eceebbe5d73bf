"""Threads that the library leaves behind when all is closed: none but the steward, which waits for the next connection.

Charter: a program in a process of its own, with clients and servers of each kind that starts threads.
"""

from __future__ import annotations

import subprocess
import sys

PROGRAM = r"""
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

from websockets.exceptions import ConnectionClosed
from websockets.client import ClientProtocol
from websockets.protocol import Protocol, Side, State
from websockets.sync.client import connect
from websockets.sync.connection import Connection
from websockets.sync.server import broadcast, serve


class Other:
    '''A socket that isn't one of the system.'''

    def __init__(self, sock):
        self._sock = sock
        self.recv, self.sendall, self.close, self.shutdown = sock.recv, sock.sendall, sock.close, sock.shutdown


def echo(websocket):
    for message in websocket:
        websocket.send(message)


def names():
    return sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())


def visit(uri):
    with connect(uri) as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=30) == "hello"


def serving(**options):
    with serve(echo, "127.0.0.1", 0, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        uri = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        for _ in range(5):
            visit(uri)
        with connect(uri) as one, connect(uri) as other:
            broadcast(server.connections, "news")
            assert one.recv(timeout=30) == other.recv(timeout=30) == "news"
    thread.join()


serving()
with ThreadPoolExecutor(2) as pool:
    serving(executor=pool)

here, there = socket.socketpair()
client, server = Connection(Other(here), Protocol(Side.CLIENT)), Connection(there, Protocol(Side.SERVER))
answering = threading.Thread(target=echo, args=(server,))
answering.start()
client.send("hello")
assert client.recv(timeout=30) == "hello"
assert len(names()) > 2, names()
bridges = [thread for thread in threading.enumerate() if "bridge" in thread.name]
client.close()
answering.join()
for bridge in bridges:
    bridge.join(30)
print(names())
"""


def test_only_the_steward_is_left() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert (done.stdout, done.stderr) == ("['websockets steward']\n", "")
