"""One connection after the other: when the command connects again, and that no line is lost in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from _kit import idle, virtual
from cli.test_talk import OK, Log, echo, served, target
from websockets.asyncio.server import ServerConnection
from websockets.cli._again import KeptLines, again_and_again
from websockets.cli._client import history_file
from websockets.cli._facts import reached
from websockets.cli._talk import Plan, Talk
from websockets.cli._target import Target
from websockets.exceptions import InvalidURI


async def once(connection: ServerConnection) -> None:
    """Answer one message, and close as a server that restarts does."""
    await connection.send(f"{await connection.recv(decode=True)}!")
    await connection.close(1012)


def typed(queue: asyncio.Queue[str | None]) -> AsyncGenerator[str, None]:
    async def generate() -> AsyncGenerator[str, None]:
        while (line := await queue.get()) is not None:
            yield line

    return generate()


@virtual
async def test_lines_go_on_on_the_next_connection() -> None:
    log, queue = Log(), asyncio.Queue[str | None]()
    kept = KeptLines(typed(queue))
    async with served(once) as server:
        work = Talk(Plan(lines=lambda: kept, typed=True), log)
        task = asyncio.create_task(again_and_again(target(server), log, work))
        for number in range(3):
            await idle()
            queue.put_nowait(str(number))
            await asyncio.sleep(60)
        queue.put_nowait(None)
        assert await task == 0
        await kept.end()
    assert [line for line in log.lines if line[0] == "<"] == ["< 0!", "< 1!", "< 2!"]
    assert log.lines.count("Connection closed: 1012 (service restart).") == 3
    assert log.lines[-1] == OK
    assert work.count == 3


@virtual
async def test_nothing_is_there_yet() -> None:
    log = Log()
    async with served(echo) as server:
        there = target(server)
    task = asyncio.create_task(again_and_again(there, log, Talk(Plan(messages=["x"], expect=1), log)))
    await asyncio.sleep(30)
    assert len([line for line in log.lines if line.startswith("Failed to connect")]) > 2
    assert [line for line in log.lines if line.startswith("Connecting again in ")]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@virtual
async def test_what_does_not_pass_is_not_tried_again() -> None:
    log = Log()
    assert await again_and_again(Target("http://host", {}), log, Talk(Plan(), log)) == 1
    assert log.lines[0].startswith(f"Failed to connect to http://host: {InvalidURI('http://host', '')}")
    assert log.lines[1:] == ["Hint: did you mean ws://host?"]


@virtual
async def test_closing_by_a_command_is_the_end() -> None:
    log, queue = Log(), asyncio.Queue[str | None]()
    kept = KeptLines(typed(queue))
    queue.put_nowait("/close 4000 enough")
    async with served(echo) as server:
        work = Talk(Plan(lines=lambda: kept, typed=True, slash=True), log)
        assert await again_and_again(target(server), log, work) == 3
    await kept.end()
    assert log.lines[1:] == ["Connection closed: 4000 (private use) enough."]


@virtual
async def test_lines_that_end_while_somebody_waits_for_them() -> None:
    kept = KeptLines(typed(asyncio.Queue()))
    waiting = asyncio.create_task(anext(kept))
    await idle()
    waiting.cancel()
    await idle()
    await kept.end()
    await kept.aclose()


@virtual
async def test_where_a_connection_leads() -> None:
    log, told = Log(), []
    async with served(echo) as server:
        await again_and_again(
            target(server), log, Talk(Plan(), log), opened=lambda connection: told.extend(reached(connection))
        )
    (line,) = told
    assert line.startswith("Connected to ")


class Secured:
    """A connection with TLS, as far as it is asked."""

    remote_address = ""

    def __init__(self, certificate: dict[str, Any], cipher: tuple[str, str, int] | None) -> None:
        self.transport = self
        self.getpeercert = lambda: certificate
        self.cipher = lambda: cipher

    def get_extra_info(self, name: str) -> Any:
        return self

    def version(self) -> str:
        return "TLSv1.3"


@pytest.mark.parametrize(
    ("certificate", "lines"),
    [
        ({}, ["Certificate: not verified"]),
        (
            {"subject": (), "issuer": ((("commonName", "CA"),),), "notAfter": "tomorrow"},
            ["Certificate: no name, for no name", "  issued by commonName=CA, valid until tomorrow"],
        ),
        (
            {
                "subject": ((("countryName", "XX"),), (("commonName", "a"),)),
                "issuer": ((("commonName", "CA"),),),
                "subjectAltName": (("DNS", "a"), ("IP Address", "::1")),
                "notAfter": "tomorrow",
            },
            [
                "Certificate: countryName=XX, commonName=a, for DNS:a, IP Address:::1",
                "  issued by commonName=CA, valid until tomorrow",
            ],
        ),
    ],
)
def test_how_a_connection_is_secured(certificate: dict[str, Any], lines: list[str]) -> None:
    connection: Any = Secured(certificate, ("AES", "TLSv1.3", 256))
    assert reached(connection) == ["Connected to a Unix socket", "TLSv1.3, AES", *lines]
    connection = Secured({}, None)
    assert reached(connection)[1] == "TLSv1.3, no cipher"


@virtual
async def test_lines_that_nobody_waits_for() -> None:
    await KeptLines(typed(asyncio.Queue())).end()


def test_place_of_the_history() -> None:
    assert history_file({"WEBSOCKETS_HISTORY": "x"}) == Path("x")
    assert history_file({"WEBSOCKETS_HISTORY": ""}) is None
    assert history_file({"XDG_STATE_HOME": "/state"}) == Path("/state/websockets/history")
    assert history_file({}) == Path.home() / ".local/state/websockets/history"
    with mock.patch.object(Path, "home", side_effect=RuntimeError("Could not determine home directory.")):
        assert history_file({}) is None
        assert history_file({"XDG_STATE_HOME": "/state"}) == Path("/state/websockets/history")
