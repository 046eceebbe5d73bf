"""The scenarios of the interoperability tests, and what each side has to report of them.

Charter: data, and its translation into the lines of the contract. How peers play a scenario, and the members of
requests and reports, is described in peers/contract.py.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

Message = str | tuple[bytes, int]

# Characters of one to four bytes in UTF-8.
TEXT = "héllo ✓ 🎉"
REASON = "so long ✓"

# 256 different bytes, so that a wrong mask or order shows.
ALL_BYTES = bytes(range(256))

MEBIBYTE = 2**20


def describe(message: str | bytes) -> dict[str, Any]:
    """Describe a message as clients do when they receive it."""
    data = message.encode() if isinstance(message, str) else message
    kind = "text" if isinstance(message, str) else "binary"
    return {"type": kind, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def order(message: str | bytes, times: int) -> dict[str, Any]:
    """Tell a client to send a message that is ``message`` repeated ``times`` times."""
    if isinstance(message, str):
        return {"text": message, "times": times}
    return {"hex": message.hex(), "times": times}


@dataclass(frozen=True)
class Scenario:
    """One connection, from opening to closing.

    ``path`` selects what the server does, ``send`` is what the client sends, each item with a number of repetitions,
    ``receive`` what the server sends on its own; one of the sides closes with ``code`` and ``reason``.
    """

    name: str
    path: str = "/echo"
    deflate: bool = False
    ping: str | None = None
    send: tuple[tuple[str | bytes, int], ...] = ()
    receive: tuple[str, ...] = ()
    closer: Literal["client", "server"] = "client"
    code: int = 1000
    reason: str = ""

    @property
    def target(self) -> str:
        """The target of the request, which names the scenario so that reports of the server can be told apart."""
        query = {"scenario": self.name}
        if self.closer == "server":
            query |= {"code": str(self.code), "reason": self.reason}
        return f"{self.path}?{urlencode(query)}"

    def request(self) -> dict[str, Any]:
        """Return the line that makes a client play this scenario."""
        return {
            "target": self.target,
            "deflate": self.deflate,
            "ping": self.ping,
            "send": [order(message, times) for message, times in self.send],
            "receive": len(self.receive),
            "close": {"code": self.code, "reason": self.reason} if self.closer == "client" else None,
        }

    def client_report(self, answer_code: int) -> dict[str, Any]:
        """Return what the client must report, if the other side answers a Close with ``answer_code``."""
        received = [describe(message * times) for message, times in self.send] + [describe(m) for m in self.receive]
        return {"target": self.target, "received": received, **self.closing("client", answer_code)}

    def server_report(self, answer_code: int) -> dict[str, Any]:
        """Return what the server must report, if the other side answers a Close with ``answer_code``."""
        return {"target": self.target, **self.closing("server", answer_code)}

    def closing(self, side: str, answer_code: int) -> dict[str, Any]:
        """Return how the connection was closed, seen from one side: whoever closes learns the code of the answer."""
        if side == self.closer:
            return {"code": answer_code}
        return {"code": self.code, "reason": self.reason}


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("text", send=((TEXT, 1), ("", 1))),
        Scenario("binary", send=((ALL_BYTES, 1), (b"", 1))),
        Scenario("mebibyte of text", send=(("0123456789abcdef", MEBIBYTE // 16),)),
        Scenario("mebibyte of binary", send=((ALL_BYTES, MEBIBYTE // 256),)),
        # The second message of each kind refers to the first one where both sides keep their compression context.
        Scenario("compressed text", deflate=True, send=((TEXT, 100), (TEXT, 100), ("", 1))),
        Scenario("compressed binary", deflate=True, send=((ALL_BYTES, 4), (ALL_BYTES, 4), (b"", 1))),
        Scenario("compressed mebibyte", deflate=True, send=((ALL_BYTES, MEBIBYTE // 256),)),
        Scenario("client pings", ping="are you there?", send=((TEXT, 1),)),
        Scenario("server pings", path="/ping", receive=("pong",)),
        Scenario("client closes with 1000"),
        Scenario("client closes with 3001", code=3001, reason=REASON),
        Scenario("server closes with 1000", path="/close", closer="server"),
        Scenario("server closes with 3001", path="/close", closer="server", code=3001, reason=REASON),
    )
}
