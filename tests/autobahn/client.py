"""Echo client driven by the Autobahn testsuite's fuzzing server.

Charter: uses only a public API: for asyncio, for trio, or the legacy one. Asks the fuzzing server how many cases there
are, opens one connection per case on which it echoes every message with its type, and finally asks for the report to be
written.
"""

from __future__ import annotations

import argparse

from apis import APIS, api_of
from loops import LOOPS, on_trio, run

from websockets.exceptions import ConnectionClosed, InvalidHandshake

# Section 9 sends messages of 16 MiB; nothing in the testsuite is longer.
MAX_SIZE = 2**25

# The name under which the fuzzing server files its results.
AGENT = "websockets"


async def case_count(uri: str, api: str) -> int:
    """Ask the fuzzing server for the number of cases it was told to run."""
    async with api_of("client", api).connect(f"{uri}/getCaseCount") as websocket:
        return int(await websocket.recv())


async def run_case(uri: str, case: int, api: str) -> None:
    """Echo on one connection until the fuzzing server has seen enough of it."""
    target = f"{uri}/runCase?case={case}&agent={AGENT}"
    try:
        async with api_of("client", api).connect(target, max_size=MAX_SIZE, ping_interval=None) as websocket:
            async for message in websocket:
                await websocket.send(message)
    except (ConnectionClosed, InvalidHandshake) as exc:
        # Broken connections are what the cases are about: the fuzzing server judges them, not this program.
        print(f"case {case}: {exc}", flush=True)


async def update_reports(uri: str, api: str) -> None:
    """Have the fuzzing server write its report; it closes the connection when that is done."""
    async with api_of("client", api).connect(f"{uri}/updateReports?agent={AGENT}", open_timeout=60) as websocket:
        await websocket.wait_closed()


async def main(uri: str, api: str) -> None:
    """Run all cases in order, then have the report written."""
    for case in range(1, await case_count(uri, api) + 1):
        await run_case(uri, case, api)
    await update_reports(uri, api)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("uri", help="address of the fuzzing server, for example ws://127.0.0.1:9001")
    parser.add_argument("--loop", choices=sorted(LOOPS), default="asyncio", help="event loop (default: asyncio)")
    parser.add_argument("--api", choices=APIS, default="asyncio", help="API to connect with (default: asyncio)")
    options = parser.parse_args()
    if options.api == "trio":
        on_trio(main, options.uri, "trio")
    else:
        run(main(options.uri, options.api), options.loop)
