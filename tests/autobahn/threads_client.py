"""Echo client in threads, driven by the Autobahn testsuite's fuzzing server.

Charter: as client.py, with the public API for threads.
"""

from __future__ import annotations

import argparse

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, reconnect

# Section 9 sends messages of 16 MiB; nothing in the testsuite is longer.
MAX_SIZE = 2**25

# The name under which the fuzzing server files its results.
AGENT = "websockets"


def case_count(uri: str) -> int:
    """Ask the fuzzing server for the number of cases it was told to run."""
    with reconnect(f"{uri}/getCaseCount") as websocket:
        return int(websocket.recv())


def echo(websocket: ClientConnection) -> None:
    """Echo on one connection until the fuzzing server has seen enough of it."""
    for message in websocket:
        websocket.send(message)


def main(uri: str) -> None:
    """Run all cases in order, then have the report written."""
    for case in range(1, case_count(uri) + 1):
        target = f"{uri}/runCase?case={case}&agent={AGENT}"
        try:
            with reconnect(target, max_size=MAX_SIZE, ping_interval=None) as websocket:
                echo(websocket)
        except (ConnectionClosed, InvalidHandshake) as exc:
            # Broken connections are what the cases are about: the fuzzing server judges them, not this program.
            print(f"case {case}: {exc}", flush=True)
    with reconnect(f"{uri}/updateReports?agent={AGENT}", open_timeout=60) as websocket:
        websocket.wait_closed()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("uri", help="address of the fuzzing server, for example ws://127.0.0.1:9001")
    main(parser.parse_args().uri)
