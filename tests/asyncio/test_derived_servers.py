"""Programs derive classes from those of servers, and give them names of their own: nothing of ours takes these."""

from __future__ import annotations

from typing import Any

import pytest

from _kit import virtual
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request
from websockets.testing import serve_in_memory

# Names that programs give to methods of such classes. All of them were once taken.
NAMES = [
    "_accept", "_answered", "_ask", "_asking", "_beyond", "_broken", "_choosing", "_close_by", "_close_for_server",
    "_closer", "_cut_off", "_ended", "_ended_by", "_find_room", "_handler_failed", "_never_asked", "_open", "_ran",
    "_refuse_unless_asked", "_refused", "_run", "_send_response", "_shut", "_take_request",
]  # fmt: skip


def taken(*arguments: Any) -> Any:
    raise AssertionError("somebody called a method of a program")


Derived: type[ServerConnection] = type("Derived", (ServerConnection,), dict.fromkeys(NAMES, taken))


async def echo(connection: ServerConnection) -> None:
    assert type(connection) is Derived
    async for message in connection:
        await connection.send(message)


async def ask(connection: ServerConnection, request: Request) -> None: ...


def choose(connection: ServerConnection, offered: Any) -> None: ...


@pytest.mark.parametrize(
    "hooks", [{}, {"process_request": ask, "select_subprotocol": choose}], ids=["no hook", "hooks"]
)
@virtual
async def test_names_of_a_program(hooks: dict[str, Any]) -> None:
    async with serve_in_memory(echo, create_connection=Derived, max_connections=1, **hooks) as server:
        async with server.connect() as connection:
            await connection.send("hello")
            assert await connection.recv() == "hello"
            with pytest.raises(Exception, match="HTTP 503"):
                await server.connect()
        waiting = await server.connect()
        server.server.close()
        await waiting.wait_closed()
        assert waiting.close_code == 1001


def test_few_names_are_taken() -> None:
    # What Connection has stands on another page.
    own = {name for name in vars(ServerConnection) if name.startswith("_") and not name.startswith("__")}
    assert own == {"_abort", "_answer", "_answering", "_process_events", "_forget", "_make_session", "_task"}
    served = serve(echo, "localhost", 0)
    names = {*vars(Server), *vars(served)}
    assert {name for name in names if name.startswith("_") and not name.startswith("__")} == {
        *(
            "_answering",
            "_create_server",
            "_kernel_sockets",
            "_listening",
            "_registry",
            "_shutdown",
            "_start",
            "_streams",
        ),
        "_take",
    }
