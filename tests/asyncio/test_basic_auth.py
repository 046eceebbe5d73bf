"""Basic authentication on asyncio: who gets in, as whom, and what the others are told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import request, virtual
from _kit.asking import ask, uri_of
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, basic_auth, serve
from websockets.exceptions import InvalidStatus

BASIC = 'Basic realm="the \\"realm\\"", charset="UTF-8"'


async def greet(connection: ServerConnection) -> None:
    await connection.send(f"hello, {connection.username}")


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Server]:
    auth = basic_auth('the "realm"', **options)
    async with serve(greet, "localhost", 0, process_request=auth, compression=None) as server:
        yield server


async def check(username: str, password: str) -> bool:
    await asyncio.sleep(1)
    return (username, password) == ("user", "pass")


@pytest.mark.parametrize(
    "options",
    [
        {"credentials": ("user", "pass")},
        {"credentials": [("user", "pass"), ("other", "word")]},
        {"check_credentials": lambda username, password: (username, password) == ("user", "pass")},
        {"check_credentials": check},
    ],
    ids=["pair", "pairs", "function", "coroutine"],
)
@virtual
async def test_who_gets_in(options: dict[str, Any]) -> None:
    async with serving(**options) as server:
        async with connect(uri_of(server, user_info="user:pass@")) as client:
            assert await client.recv() == "hello, user"
        for wrong in ("user:word@", "other:pass@", ":@", ""):
            with pytest.raises(InvalidStatus, match="HTTP 401"):
                await connect(uri_of(server, user_info=wrong))


@pytest.mark.scenario(24)
@pytest.mark.parametrize(
    ("authorization", "body"),
    [
        (None, b"Missing credentials\n"),
        ("Digest abc", b"Unsupported credentials\n"),
        ("Basic dXNlcjp3b3Jk", b"Invalid credentials\n"),
    ],
)
@virtual
async def test_refusal(authorization: str | None, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "websockets.server")
    async with serving(credentials=("user", "pass")) as server:
        answer = await ask(server, request(headers={"Authorization": authorization}))
    assert (answer.status, answer.body) == ("401 Unauthorized", body)
    assert answer.headers["WWW-Authenticate"] == [BASIC]
    assert answer.headers["Connection"] == ["close"]
    assert "HTTP response sent (401 Unauthorized)" in caplog.messages


@virtual
async def test_check_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    def check(username: str, password: str) -> bool:
        raise LookupError("no database")

    async with serving(check_credentials=check) as server:
        with pytest.raises(InvalidStatus, match="HTTP 500"):
            await connect(uri_of(server, user_info="user:pass@"))
    (record,) = caplog.records
    assert record.getMessage() == "process_request failed"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


@virtual
async def test_client_that_leaves_during_the_check() -> None:
    cancelled: list[str] = []

    async def check(username: str, password: str) -> bool:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(username)
            raise
        return True

    async with serving(check_credentials=check) as server:
        with pytest.raises(TimeoutError):
            await connect(uri_of(server, user_info="user:pass@"), open_timeout=1)
    assert cancelled == ["user"]


def test_mistakes_show_at_once() -> None:
    with pytest.raises(ValueError, match="provide either credentials or check_credentials"):
        basic_auth()
    with pytest.raises(TypeError, match="invalid credentials argument"):
        basic_auth(credentials=42)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="invalid characters for quoted-string encoding"):
        basic_auth("a\nb", credentials=("user", "pass"))
