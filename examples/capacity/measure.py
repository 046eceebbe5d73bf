"""Measure the cost of a connection and of a message, in an echo server on this machine. For Linux.

``python measure.py PID URI [CONNECTIONS [CA]]``: the server's process, its URI, and the certificate to trust for TLS.
"""

import asyncio
import os
import re
import ssl
import sys
import time
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect

# Open these before measuring, so that one-time costs of the process don't count.
FIRST = 100
SECONDS = 5
SIZE = 256


def memory(pid: int) -> int:
    """The resident memory of a process, in KiB."""
    (found,) = re.findall(r"^VmRSS:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(found)


def cpu_time(pid: int) -> float:
    """The processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(pid: int, uri: str, connections: int, context: ssl.SSLContext | None) -> None:
    few = asyncio.Semaphore(50)

    async def open_one() -> ClientConnection:
        async with few:
            return await connect(uri, ssl=context, ping_interval=None, open_timeout=60)

    first = await asyncio.gather(*(open_one() for _ in range(FIRST)))
    before = memory(pid)
    clients = await asyncio.gather(*(open_one() for _ in range(connections)))
    print(f"memory of an idle connection   {(memory(pid) - before) / connections:6.1f} KiB")

    async def talk(client: ClientConnection, until: float) -> int:
        count = 0
        # Text that compresses by about half, like most text.
        message = os.urandom(SIZE // 2).hex()
        while not count or time.monotonic() < until:
            await client.send(message)
            await client.recv()
            count += 1
        return count

    await asyncio.gather(*(talk(client, 0) for client in clients))
    print(f"memory after a message         {(memory(pid) - before) / connections:6.1f} KiB")
    spent, until = cpu_time(pid), time.monotonic() + SECONDS
    messages = sum(await asyncio.gather(*(talk(client, until) for client in first)))
    cost = (cpu_time(pid) - spent) / messages
    print(f"processor time of a message    {cost * 1e6:6.1f} µs, so {1 / cost:,.0f} a second fill a processor")
    await asyncio.gather(*(client.close() for client in [*first, *clients]))


def main(pid: str, uri: str, connections: str = "2000", ca: str = "") -> None:
    context = ssl.create_default_context(cafile=ca) if ca else None
    asyncio.run(measure(int(pid), uri, int(connections), context))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
    except OSError as exc:
        sys.exit(str(exc))
