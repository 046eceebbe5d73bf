"""Basic authentication on asyncio: a check that is cancelled, and mistakes that show at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from _kit import virtual
from _kit.asking import uri_of
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, basic_auth, serve


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
