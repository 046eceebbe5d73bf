"""The command line of the soak: rounds of load and faults, what is measured between them, and a report.

May know: the load, the faults, the meters, the clock. Must not know: how a connection works.

In a round, workers have one connection after another, with and without faults, and connections that last for the whole
run go on talking. Then all but the latter end, and what is left is counted: there must be no more of it than before.
Exit status 1 means that something was lost, went wrong or grew.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import resource
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.certificates import make_certificate
from soak.faults import Faulty
from soak.ledger import Ledger
from soak.meters import LIMITS, Heart, Sample, growth, take_sample
from soak.steady import LongLived, Steady
from websockets._codec import TWIN

__all__ = ["main"]

# Seconds of load in a round: part of the time, but no less and no more than this. A round goes on until its slowest
# fault ends, which takes up to three times as long as the timeouts.
PART, SHORTEST, LONGEST = 1 / 20, 2.0, 20.0

# A line through fewer samples says nothing.
LEAST_ROUNDS = 4

# Complaints that are printed; all are counted.
SHOWN = 20


class Records(logging.Handler):
    """Errors in the logs are complaints."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(logging.ERROR)
        self.ledger = ledger

    def emit(self, record: logging.LogRecord) -> None:
        """Take in an error."""
        exc = record.exc_info[1] if record.exc_info else None
        self.ledger.complain(f"log of {record.name}: {record.getMessage()} {exc!r}")


class Soak:
    """A run.

    Parameters:
        options: those of the command line.
        tls: contexts of the server and its clients, None for plain TCP.
    """

    def __init__(self, options: argparse.Namespace, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None) -> None:
        self.options = options
        self.ledger = Ledger()
        self.steady = Steady(self.ledger, tls)
        self.heart = Heart()
        self.faulty = Faulty(self.ledger, options.pace, self.heart)
        self.numbers = itertools.count()
        self.samples: list[Sample] = []

    async def run(self) -> int:
        """Run for the time that was asked for, and report."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.ledger.complain(f"loop: {context}"))
        logging.getLogger().addHandler(Records(self.ledger))
        await self.steady.start()
        await self.faulty.start()
        lasting = [LongLived(self.steady, f"/lasting/{number}") for number in range(self.options.connections // 8)]
        for connection in lasting:
            await connection.start()
        begun = time.monotonic()
        end = begun + self.options.minutes * 60
        load = min(max(self.options.minutes * 60 * PART, SHORTEST), LONGEST)
        while time.monotonic() < end or len(self.samples) < LEAST_ROUNDS:
            await self.round(load, lasting)
            await self.settle(len(lasting))
            self.samples.append(take_sample((time.monotonic() - begun) / 60))
        for connection in lasting:
            await connection.stop()
        await self.steady.stop()
        await self.faulty.stop()
        self.heart.stop()
        return self.report(time.monotonic() - begun)

    async def round(self, seconds: float, lasting: list[LongLived]) -> None:
        """Load for some seconds, and until all that was begun has ended."""
        until = time.monotonic() + seconds
        many = self.options.connections
        self.steady.may_speak.set()
        speaking = asyncio.ensure_future(self.steady.speak())
        async with asyncio.TaskGroup() as group:
            for kind, share in ((self.echo, 3), (self.fragments, 1), (self.listen, 1), (self.fault, 3)):
                for _ in range(many * share // 8):
                    group.create_task(self.work(kind, until))
            for connection in lasting:
                group.create_task(connection.talk(20))
            await asyncio.sleep(seconds)
            self.steady.may_speak.clear()
        await speaking

    async def work(self, kind: Callable[[int], Awaitable[None]], until: float) -> None:
        """One connection after another."""
        while time.monotonic() < until:
            await kind(next(self.numbers))

    async def echo(self, number: int) -> None:
        await self.steady.talk(f"/echo/{number}", 5 + number % 150)

    async def fragments(self, number: int) -> None:
        await self.steady.talk(f"/fragments/{number}", 5 + number % 40)

    async def listen(self, number: int) -> None:
        await self.steady.listen(f"/news/{number}", 5 + number % 40)

    async def fault(self, number: int) -> None:
        await self.faulty.commit(number)

    async def settle(self, lasting: int) -> None:
        """Wait until only the lasting connections are left; after that, what is left is a leak."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            if len(self.steady.server.connections) == lasting and not self.faulty.server.connections:
                break
        else:
            self.ledger.complain("connections that don't end")
        await asyncio.sleep(0.3)

    # -------------------------------------------------------------------------------------------------------- reporting

    def report(self, seconds: float) -> int:
        """Print what came of it; return the exit status."""
        ledger = self.ledger
        usage = resource.getrusage(resource.RUSAGE_SELF)
        whole = sum(ledger.connections.values())
        faults = sum(ledger.faults.values())
        print(f"soak of {seconds / 60:.1f} minutes, {len(self.samples)} rounds, accelerator: {TWIN}, ", end="")
        print(f"TLS: {'yes' if self.options.tls else 'no'}, {usage.ru_utime + usage.ru_stime:.0f} s of CPU")
        print(f"connections: {whole + faults}, at most {ledger.most_open} of the server's at a time")
        print("  without faults: " + listed(ledger.connections))
        print("  with faults: " + listed(ledger.faults))
        print(f"  the loop stood still for {self.heart.longest:.1f} s at most, which excuses {ledger.excused} faults")
        print(f"messages without faults: {ledger.sent} sent, {ledger.received} received, {ledger.lost} lost")
        grown = growth(self.samples)
        print(f"{'':12}{'first':>11}{'last':>11}{'a minute':>11}{'limit':>8}{'rise':>10}{'noise':>8}")
        for row in grown:
            limit, noise = LIMITS[row.name]
            verdict = "flat" if row.flat else "GROWS"
            figures = (
                f"{row.first:>11.0f}{row.last:>11.0f}{row.slope:>11.2f}{limit:>8.1f}{row.rise:>10.1f}{noise:>8.0f}"
            )
            print(f"{'rss, KiB' if row.name == 'rss' else row.name:12}{figures}  {verdict}")
        print(f"complaints: {len(ledger.wrong)}")
        for line in ledger.wrong[:SHOWN]:
            print(f"  {line[:300]}")
        enough = whole and faults > ledger.excused
        good = ledger.lost == 0 and not ledger.wrong and enough and all(row.flat for row in grown)
        print("passed" if good else "FAILED")
        return 0 if good else 1


async def soak(options: argparse.Namespace, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None) -> int:
    """Run one, in a loop that runs."""
    return await Soak(options, tls).run()


def listed(counts: Any) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(counts.items()))


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for the server and its clients, which don't care who it is."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(make_certificate(folder))
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return server, client


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Parameters:
        arguments: those of the command line; by default the real ones.

    Returns:
        The exit status: 1 if anything was lost, went wrong or grew.
    """
    parser = argparse.ArgumentParser(prog="tests/soak/run.py", description="Load with faults, for a long time.")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long; default: 1")
    parser.add_argument("--connections", type=int, default=240, help="workers at a time; default: 240")
    parser.add_argument("--pace", type=float, default=1.0, help="multiplies the timeouts for faults; default: 1")
    parser.add_argument(
        "--noise",
        type=float,
        default=8.0,
        help="MiB by which memory may rise in any case; default: 8, more for short runs",
    )
    parser.add_argument("--tls", action="store_true", help="connections without faults use TLS; needs openssl")
    options = parser.parse_args(arguments)
    LIMITS["rss"] = LIMITS["rss"][0], options.noise * 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 10 * options.connections + 200), hard), hard))
    with tempfile.TemporaryDirectory() as temporary:
        tls = contexts(Path(temporary)) if options.tls else None
        return asyncio.run(soak(options, tls))


if __name__ == "__main__":
    sys.exit(main())
