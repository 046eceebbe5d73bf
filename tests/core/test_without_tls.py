"""An interpreter without TLS, such as Pyodide: what doesn't ask for it works."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import sys
sys.modules["ssl"] = sys.modules["_ssl"] = None  # importing them fails
import websockets.client, websockets.server, websockets.legacy.client, websockets.legacy.server
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.testing import connected_pair, run

async def main():
    async with connected_pair() as (client, server):
        await client.send("hello")
        print(await server.recv())
    async with serve(lambda connection: connection.send("there"), "localhost", 80):
        async with connect("ws://localhost/") as client:
            print(await client.recv())
        try:
            await connect("wss://localhost:80/")
        except ImportError as exc:
            print(type(exc).__name__, exc.name)

run(main())
"""


def test_connections_without_tls() -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("hello\nthere\nModuleNotFoundError ssl\n", "")
