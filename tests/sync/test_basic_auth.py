"""Basic authentication for threads: a check that blocks, and mistakes that show at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from _kit import request
from _kit.blocking import PATIENCE, Logged, ask, enter, knock, serving
from websockets.headers import build_authorization_basic
from websockets.sync.server import ServerConnection, basic_auth


def greet(connection: ServerConnection) -> None:
    connection.send(f"hello, {connection.username}")


def authorized(username: str, password: str) -> bytes:
    return request(headers={"Authorization": build_authorization_basic(username, password)})


def test_credentials() -> None:
    with serving(greet, process_request=basic_auth("here", credentials=("user", "pass"))) as server:
        with enter(server, authorized("user", "pass")) as client:
            assert client.read_frame().payload == b"hello, user"
            client.answer_close()
        refused = ask(server, authorized("user", "word"))
        assert refused.status == "401 Unauthorized"
        assert refused.headers["WWW-Authenticate"] == ['Basic realm="here", charset="UTF-8"']
        assert refused.body == b"Invalid credentials\n"
        assert ask(server, request()).body == b"Missing credentials\n"


def test_a_check_may_block() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def check(username: str, password: str) -> bool:
        if username == "slow":
            asked.set()
            assert go_on.wait(PATIENCE)
        return password == "pass"

    with serving(greet, process_request=basic_auth(check_credentials=check)) as server, knock(server) as slow:
        slow.send(authorized("slow", "pass"))
        assert asked.wait(PATIENCE)
        assert ask(server, authorized("quick", "word")).status == "401 Unauthorized"
        go_on.set()
        assert slow.read_until().startswith(b"HTTP/1.1 101 ")
        assert slow.read_frame().payload == b"hello, slow"
        slow.answer_close()


def test_a_check_that_turns_out_to_be_async_lets_nobody_in() -> None:
    async def check(username: str, password: str) -> bool:
        return True

    given: Any = lambda username, password: check(username, password)  # noqa: E731
    with Logged() as logged, serving(greet, process_request=basic_auth(check_credentials=given)) as server:
        assert ask(server, authorized("user", "pass")).status == "500 Internal Server Error"
        assert logged.find("process_request failed").exc_info is not None


def test_mistakes_show_at_once() -> None:
    with pytest.raises(ValueError, match="provide either credentials or check_credentials"):
        basic_auth()
    with pytest.raises(TypeError, match="invalid credentials argument"):
        basic_auth(credentials=42)  # type: ignore[arg-type]
