"""What is measured: each case by name, and the job that a measuring process is given.

Charter: plain data. May know: what a case asks for. Must not know: how it is measured, or which libraries are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

# What stands for an event loop where threads are measured.
THREADS = "threads"

KILO = 1024
MEGA = 1024 * KILO

# A client that is measured looks at the clock after so many messages, unless more are in flight.
BLOCK = 16


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Parameters:
        name: for the command line.
        title: for tables.
        kind: "echo", "broadcast", "open-close" or "idle".
        role: "server" or "client": which side is the library that is measured; the other one is raw sockets.
        unit: what ``cost`` counts, lower being better.
        size: bytes of a message before compression.
        connections: how many are open at the same time.
        depth: messages in flight on each of them.
        deflate: whether the connections negotiate permessage-deflate, and messages are compressed.
        used: of an idle connection, whether it carried a message before.
        tls: whether it runs over TLS.
    """

    name: str
    title: str
    kind: str = "echo"
    role: str = "server"
    unit: str = "µs/message"
    size: int = 0
    connections: int = 1
    depth: int = 1
    deflate: bool = False
    used: bool = False
    tls: bool = False

    @property
    def group(self) -> str:
        """The table that a case belongs to."""
        if self.kind != "echo":
            return "connections"
        return self.role


def sized(size: int) -> str:
    """A size in words."""
    for factor, unit in ((MEGA, "MB"), (KILO, "KB")):
        if size >= factor:
            return f"{size // factor} {unit}"
    return f"{size} B"


def echo(role: str, size: int, connections: int = 1, depth: int = 1, deflate: bool = False, tls: bool = False) -> Case:
    """A case of messages that come back, with the name and the title that follow from its numbers."""
    kind = "json-" if deflate else "tls-" if tls else "echo-"
    load = "" if connections == depth == 1 else f"-x{depth}" if connections == 1 else f"-{connections}x{depth}"
    title = f"{sized(size)}{' of JSON, compressed' if deflate else ', TLS' if tls else ''}"
    title += f", {depth} in flight" if connections == 1 else f", {connections} connections"
    if connections > 1 and depth > 1:
        title += f" with {depth} in flight each"
    name = f"{role}-{kind}{sized(size).replace(' ', '')}{load}"
    return Case(
        name, title, role=role, size=size, connections=connections, depth=depth, deflate=deflate, tls=tls
    )  # fmt: skip


def echoes(role: str) -> Iterable[Case]:
    """The cases of one side without TLS."""
    for size in (32, 256, 8 * KILO, 100 * KILO, MEGA):
        yield echo(role, size)
    for size in (32, 256, 8 * KILO):
        yield echo(role, size, depth=64)
    yield echo(role, KILO, connections=20, depth=32)
    yield echo(role, 256, connections=100)
    yield echo(role, KILO, connections=20, deflate=True)
    yield echo(role, 32 * KILO, connections=4, deflate=True)


def echoes_over_tls(role: str) -> Iterable[Case]:
    """The cases of one side with TLS."""
    for size, depth in ((256, 1), (256, 64), (100 * KILO, 1)):
        yield echo(role, size, depth=depth, tls=True)


BROADCAST_TO = 1000
AT_A_TIME = 20
IDLE = 2000

OTHERS = (
    Case(
        "broadcast", f"broadcast of 256 B to {BROADCAST_TO}", "broadcast",
        unit="µs/recipient", size=256, connections=BROADCAST_TO,
    ),
    Case(
        "server-open-close", f"opening and closing, server, {AT_A_TIME} at a time", "open-close",
        unit="µs/connection", connections=AT_A_TIME,
    ),
    Case(
        "client-open-close", f"opening and closing, client, {AT_A_TIME} at a time", "open-close",
        role="client", unit="µs/connection", connections=AT_A_TIME,
    ),
    Case("idle", "idle connection", "idle", unit="KiB/connection", connections=IDLE),
    Case(
        "idle-deflate", "idle connection, compression negotiated", "idle",
        unit="KiB/connection", connections=IDLE, deflate=True,
    ),
    Case(
        "idle-deflate-used", "idle connection, compression used", "idle",
        unit="KiB/connection", size=KILO, connections=IDLE, deflate=True, used=True,
    ),
)  # fmt: skip

CASES = (*echoes("server"), *echoes("client"), *OTHERS)
IDLE_OVER_TLS = Case("idle-tls", "idle connection, TLS", "idle", unit="KiB/connection", connections=IDLE, tls=True)
TLS_CASES = (*echoes_over_tls("server"), *echoes_over_tls("client"), IDLE_OVER_TLS)

# What is measured in threads: one connection, as each costs the same.
THREAD_CASES = tuple(
    echo(role, size, depth=depth, tls=tls)
    for role in ("server", "client")
    for tls in (False, True)
    for size in (256, 16 * KILO)
    for depth in (1, 64)
)

# A few of each kind, for continuous integration.
QUICK = (
    "server-echo-256B", "server-echo-256B-x64", "server-echo-100KB", "server-json-1KB-*",
    "client-echo-256B", "client-echo-256B-x64", "broadcast", "server-open-close", "idle",
)  # fmt: skip


def choose(cases: Sequence[Case], patterns: Sequence[str]) -> list[Case]:
    """The cases that some patterns name, such as ``server-*``, in the order in which they are defined.

    Raises:
        ValueError: a pattern fits none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(case.name, pattern) for case in cases):
            raise ValueError(f"no case is called {pattern}; there are {', '.join(case.name for case in cases)}")
    return [case for case in cases if any(fnmatchcase(case.name, pattern) for pattern in patterns)]


def all_cases() -> list[Case]:
    """The cases of event loops and of threads, each once."""
    return list(dict.fromkeys((*CASES, *TLS_CASES, *THREAD_CASES)))


@dataclass(frozen=True)
class Job:
    """What a measuring process is told when it starts, as an argument of its command line.

    Parameters:
        case: what to do.
        loop: the event loop to use, where one is used.
        port: where the other side listens, where it does.
        certificate: file with a certificate and its key, for TLS.
    """

    case: Case
    loop: str = "asyncio"
    port: int = 0
    certificate: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        fields = json.loads(text)
        return cls(**{**fields, "case": Case(**fields["case"])})
