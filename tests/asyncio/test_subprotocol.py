"""Choosing a subprotocol on asyncio: a coroutine function that is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from _kit import idle, request, virtual
from _kit.asking import reach
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol


async def tell(connection: ServerConnection) -> None:
    await connection.send(str(connection.subprotocol))


@contextlib.asynccontextmanager
async def serving(choose: Any, **options: Any) -> AsyncIterator[Server]:
    async with serve(tell, "localhost", 0, select_subprotocol=choose, **options) as server:
        yield server


@virtual
async def test_client_that_leaves_before_the_choice() -> None:
    cancelled: list[bool] = []

    async def choose(connection: ServerConnection, offered: Sequence[Subprotocol]) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.append(True)

    async with serving(choose) as server:
        peer = await reach(server)
        await peer.send(request())
        await idle()
        peer.reset()
    assert cancelled == [True]
