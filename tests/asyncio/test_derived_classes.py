"""Programs derive classes from ours, and give them private names of their own: ours must not be in the way.

All private names of classes that programs derive from begin with ``_ws_``. No other name of ours is private there.
"""

from __future__ import annotations

from typing import Any

import pytest

from _kit import virtual
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.router import Router
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.http11 import Request
from websockets.legacy.client import Connect, WebSocketClientProtocol
from websockets.legacy.protocol import WebSocketCommonProtocol
from websockets.legacy.server import Serve, WebSocketServer, WebSocketServerProtocol
from websockets.testing import serve_in_memory

PREFIX = "_ws_"

CLASSES = [
    *(ClientConnection, ServerConnection, Server, connect, Router),
    *(WebSocketCommonProtocol, WebSocketClientProtocol, WebSocketServerProtocol, WebSocketServer, Connect, Serve),
]


def private(names: Any) -> set[str]:
    """The names with one underscore at their beginning."""
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


@pytest.mark.parametrize("cls", CLASSES)
def test_private_names_of_a_class(cls: type[Any]) -> None:
    names = {name for base in cls.__mro__ if base.__module__.startswith("websockets") for name in vars(base)}
    assert not {name for name in private(names) if not name.startswith(PREFIX)}


def plain(name: str) -> str:
    """A private name of ours as a program would choose it."""
    return "_" + name.removeprefix(PREFIX)


def taken(*arguments: Any) -> Any:
    raise AssertionError("a member of the program was used")


def derived(cls: type[Any]) -> type[Any]:
    """Derive a class that has each private name of ours for itself, in the class and in its instances."""
    names = [plain(name) for name in private(dir(cls))]

    def __init__(self: Any, *arguments: Any, **options: Any) -> None:
        cls.__init__(self, *arguments, **options)
        # Those that only instances have come later.
        for name in [*names, *map(plain, private(vars(self)))]:
            setattr(self, name, taken)

    return type("Derived", (cls,), {"__init__": __init__, **dict.fromkeys(names, taken)})


async def ask(connection: ServerConnection, request: Request) -> None: ...


def choose(connection: ServerConnection, offered: Any) -> None: ...


async def converse(connection: ServerConnection) -> None:
    """Use all of a connection."""
    await connection.send(await connection.recv())
    await connection.send(["in ", "fragments"])
    async for piece in connection.recv_streaming():
        await connection.send(piece)
    await (await connection.ping())
    broadcast([connection], "to all")
    async for message in connection:
        await connection.send(message)


@pytest.mark.parametrize(
    "hooks", [{}, {"process_request": ask, "select_subprotocol": choose}], ids=["no hook", "hooks"]
)
@virtual
async def test_private_names_of_a_program(hooks: dict[str, Any]) -> None:
    made: list[Any] = []

    def make(*arguments: Any, **options: Any) -> Any:
        made.append(derived(ServerConnection)(*arguments, **options))
        return made[-1]

    async with serve_in_memory(converse, create_connection=make, max_connections=1, **hooks) as server:
        async with server.connect(create_connection=derived(ClientConnection)) as connection:
            await connection.send("a" * 70_000)
            assert await connection.recv() == "a" * 70_000
            assert await connection.recv() == "in fragments"
            await connection.send("piece")
            assert [await connection.recv() for _ in range(2)] == ["piece", "to all"]
            await connection.send(["x", "y"])
            assert await connection.recv() == "xy"
            with pytest.raises(Exception, match="HTTP 503"):
                await server.connect()
        waiting = await server.connect(create_connection=derived(ClientConnection))
        server.server.close()
        await waiting.wait_closed()
        assert waiting.close_code == 1001
    assert {type(each).__name__ for each in made} == {"Derived"}


async def test_instances_have_no_other_private_names() -> None:
    async with (
        serve(converse, "localhost", 0) as server,
        connect(f"ws://localhost:{server.sockets[0].getsockname()[1]}", proxy=None) as connection,
    ):
        await connection.send("a")
        assert await connection.recv() == "a"
        for instance in (server, connection, *server.connections):
            assert not {name for name in private(vars(instance)) if not name.startswith(PREFIX)}
