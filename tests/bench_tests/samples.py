"""Figures for the tests of what shows figures."""

from __future__ import annotations

from bench.cases import CASES, choose
from bench.results import Results, Row
from bench.stats import Measurement, summary

ECHO, BURST = choose(CASES, ["server-echo-256B", "server-echo-256B-x64"])
(IDLE,) = choose(CASES, ["idle"])


def results() -> Results:
    """Two loops, three contenders, one of which fails in one case and is absent from another."""
    found = Results(
        {
            "ours": "websockets 18.0",
            "Python": "CPython 3.12.1",
            "system": "Linux x86_64, 2 processors",
            "rounds": "medians of 2 rounds",
        }
    )
    for loop, ours in (("asyncio", 10.0), ("uvloop", 8.0)):
        for case in (ECHO, BURST):
            found.rows.append(Row(case, loop, "ours", "ours", summary([timed(ours), timed(ours * 1.2)])))
            found.rows.append(Row(case, loop, "aiohttp", "aiohttp 3.14.5", summary([timed(ours * 2.2)])))
        found.rows.append(Row(BURST, loop, "picows", "picows <2>", error="it ended with status 1"))
    found.rows.append(Row(IDLE, "asyncio", "ours", "ours", summary([Measurement(7.25)])))
    found.rows.append(Row(IDLE, "asyncio", "aiohttp", "aiohttp 3.14.5", summary([Measurement(14.5)])))
    return found


def timed(cost: float) -> Measurement:
    return Measurement(cost, round_trip=cost * 3, rate=1e6 / cost, busy=0.9, load_busy=0.5)
