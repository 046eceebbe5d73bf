"""A server and a client in two programs, and what they have to say of each scenario.

Charter: joins ``programs`` and ``scenarios``; knows in what peers differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from interop.programs import Program, running
from interop.scenarios import SCENARIOS, Scenario

# Peers that answer a Close with a code of their own instead of the one they received.
ANSWER_CODES = {"aiohttp": 1000}

# Servers that don't tell their applications how a Close was answered.
UNTOLD = {"uvicorn"}


@dataclass(frozen=True)
class Conversation:
    """A running server, and a running client of it."""

    server: Program
    client: Program

    def answer_code(self, scenario: Scenario) -> int:
        """Return the code with which the side that does not close first answers."""
        answering = self.server if scenario.closer == "client" else self.client
        return ANSWER_CODES.get(answering.name, scenario.code)

    def server_report(self, target: str) -> dict[str, Any]:
        """Return what the server reports of one connection, leaving out what a scenario that failed left behind."""
        while (report := self.server.hear()).get("target") != target:
            pass
        return report

    def check(self, name: str) -> None:
        """Play a scenario and compare what both sides report with what they must."""
        scenario = SCENARIOS[name]
        code = self.answer_code(scenario)
        self.client.tell(scenario.request())
        report = self.client.hear()
        # Browsers always offer compression: only a scenario that is about it can tell.
        negotiated = report.pop("deflate", None)
        assert report == scenario.client_report(code)
        assert negotiated or not scenario.deflate
        expected = scenario.server_report(code)
        if scenario.closer == "server" and self.server.name in UNTOLD:
            expected["code"] = None
        assert self.server_report(scenario.target) == expected


@contextmanager
def conversation(
    server: str,
    client: str,
    server_options: Sequence[str] = (),
    client_options: Sequence[str] = (),
    uri: str = "ws://127.0.0.1:{port}",
) -> Iterator[Conversation]:
    """Run a server and a client of it, each named by its peer, during a ``with`` block."""
    with (
        running(server, "server", *server_options) as serving,
        running(client, "client", uri.format(port=serving.hello["port"]), *client_options) as calling,
    ):
        yield Conversation(serving, calling)
