"""Our client and server for threads under gevent, where threads, sockets and locks are those of gevent.

Charter: prints what both sides see, one line each, for the test to compare. Runs where the frameworks are installed.
"""

# pyright: reportMissingImports=false, reportMissingModuleSource=false
# Frameworks are installed where they run, not where types are checked.
# ruff: noqa: E402

from __future__ import annotations

import gevent.monkey

gevent.monkey.patch_all()

import gevent

import websockets
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

CLIENTS = 20
ROUNDS = 20


def echo(connection: ServerConnection) -> None:
    """Send back what arrives."""
    for message in connection:
        connection.send(message)


def talk(uri: str, number: int) -> str:
    """Talk to the server, and tell how that was."""
    with connect(uri) as connection:
        for count in range(ROUNDS):
            connection.send(f"{number}: {count}")
            assert connection.recv(timeout=30) == f"{number}: {count}"
        assert connection.ping().wait(30)
        try:
            connection.recv(timeout=0.01)
        except TimeoutError:
            # A large message fills the buffers: both ends wait for room, and let others go on.
            connection.send(bytes(2**19))
            assert connection.recv(timeout=30) == bytes(2**19)
        receiving = gevent.spawn(wait_for_the_end, connection)
        gevent.sleep()
        connection.close()
        assert receiving.get(timeout=30)
        return f"closed with {connection.close_code}"


def wait_for_the_end(connection: websockets.sync.connection.Connection) -> bool:
    """Receive in another greenlet than the one that closes."""
    try:
        connection.recv()
    except ConnectionClosedOK:
        return True
    return False


def main() -> None:
    print("library: websockets", websockets.__version__)
    with serve(echo, "127.0.0.1", 0) as server:
        serving = gevent.spawn(server.serve_forever)
        uri = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        clients = [gevent.spawn(talk, uri, number) for number in range(CLIENTS)]
        for outcome in sorted({client.get(timeout=60) for client in clients}):
            print("client: all were", outcome)
    serving.get(timeout=30)
    print("server: ended")


main()
