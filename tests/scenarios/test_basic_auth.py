"""Basic authentication: accepted credentials, the user name, and refusals."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import request
from _kit.logs import lines
from scenarios._serving import ask, both_kinds
from scenarios._world import Server, World
from scenarios._worlds import in_every_world
from websockets.exceptions import InvalidStatus

BASIC = 'Basic realm="the \\"realm\\"", charset="UTF-8"'


async def greet(connection: Any) -> None:
    await connection.send(f"hello, {connection.username}")


@contextlib.asynccontextmanager
async def serving(world: World, **options: Any) -> AsyncIterator[Server]:
    auth = world.basic_auth('the "realm"', **options)
    async with world.serve(greet, process_request=auth, compression=None) as server:
        yield server


def check(username: str, password: str) -> bool:
    return (username, password) == ("user", "pass")


CHECKS = dict(zip(("function", "coroutine"), both_kinds(check), strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {"credentials": ("user", "pass")},
        {"credentials": [("user", "pass"), ("other", "word")]},
        {"check_credentials": CHECKS["function"]},
        {"check_credentials": CHECKS["coroutine"]},
    ],
    ids=["pair", "pairs", "function", "coroutine"],
)
@in_every_world()
async def test_who_gets_in(world: World, options: dict[str, Any]) -> None:
    if "check_credentials" in options:
        options = {"check_credentials": options["check_credentials"](world)}
    async with serving(world, **options) as server:
        async with world.connect(world.uri(server, user_info="user:pass@")) as client:
            assert await client.recv() == "hello, user"
        for wrong in ("user:word@", "other:pass@", ":@", ""):
            with pytest.raises(InvalidStatus, match="HTTP 401"):
                await world.connect(world.uri(server, user_info=wrong))


@pytest.mark.scenario(24)
@pytest.mark.parametrize(
    ("authorization", "body"),
    [
        (None, b"Missing credentials\n"),
        ("Digest abc", b"Unsupported credentials\n"),
        ("Basic dXNlcjp3b3Jk", b"Invalid credentials\n"),
    ],
)
@in_every_world()
async def test_refusal(world: World, authorization: str | None, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with serving(world, credentials=("user", "pass")) as server:
        answer = await ask(world, server, request(headers={"Authorization": authorization}))
    assert (answer.status, answer.body) == ("401 Unauthorized", body)
    assert answer.headers["WWW-Authenticate"] == [BASIC]
    assert answer.headers["Connection"] == ["close"]
    assert "HTTP response sent (401 Unauthorized)" in lines(caplog.records)


@in_every_world()
async def test_check_that_fails(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def check(username: str, password: str) -> bool:
        raise LookupError("no database")

    async with serving(world, check_credentials=check) as server:
        with pytest.raises(InvalidStatus, match="HTTP 500"):
            await world.connect(world.uri(server, user_info="user:pass@"))
    (record,) = caplog.records
    assert record.getMessage() == "process_request failed"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)
