"""Token authentication: tokens themselves, in a header, in the first message; expiry and renewal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import token_client
from token_server import PATIENCE, UNAUTHORIZED, Gate, token_server
from tokens import InvalidToken, Token, issue, verify

from _kit import virtual
from examples.visits import fetch, hear, tell, uri
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server
from websockets.exceptions import ConnectionClosedError, InvalidStatus

KEY = b"of these tests"
ADA = Token("ada", 2000.0)


# ------------------------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("token", [ADA, Token("", 2000), Token('Zoë "quoted" ✓ {}.', 2000.5)])
def test_issued_token_says_who_and_until_when(token: Token) -> None:
    assert verify(KEY, issue(KEY, token), 1999.9) == token


def test_token_expires() -> None:
    with pytest.raises(InvalidToken, match="expired"):
        verify(KEY, issue(KEY, ADA), 2000)


def test_key_of_somebody_else() -> None:
    with pytest.raises(InvalidToken, match="signature"):
        verify(KEY, issue(b"another", ADA), 1000)


def test_every_change_shows() -> None:
    text = issue(KEY, ADA)
    for position in range(len(text)):
        changed = text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]
        with pytest.raises(InvalidToken):
            verify(KEY, changed, 1000)


@pytest.mark.parametrize("text", ["", ".", "x", "x.y", "ä.b", "a.b.c", "x" * 10**6, issue(KEY, ADA) + "=", " "])
def test_nonsense_is_no_token(text: str) -> None:
    with pytest.raises(InvalidToken):
        verify(KEY, text, 1000)


# -------------------------------------------------------------------------------------------------------- connections


@contextlib.asynccontextmanager
async def gate() -> AsyncIterator[Server]:
    """A server for which it is the time of the loop, which begins at 1000."""
    async with token_server(Gate(KEY, asyncio.get_running_loop().time), "127.0.0.1", 0) as server:
        yield server


def by_header(server: Server, text: str) -> connect:
    return connect(uri(server, "/account"), additional_headers={"Authorization": text})


async def refusal(websocket: ClientConnection) -> str:
    """Why the server closes the connection."""
    with pytest.raises(ConnectionClosedError):
        await websocket.recv()
    assert websocket.close_code == UNAUTHORIZED
    assert websocket.close_reason is not None
    return websocket.close_reason


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer  "])
@virtual
async def test_token_in_header(scheme: str) -> None:
    async with gate() as server, by_header(server, scheme + issue(KEY, ADA)) as websocket:
        assert await hear(websocket) == {"user": "ada", "seconds": 1000}
        await tell(websocket, {"say": "hello"})
        assert await hear(websocket) == {"user": "ada", "said": "hello"}


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x.y", "Basic YTpi", f"Bearer {issue(b'another', ADA)}"])
@virtual
async def test_wrong_token_in_header_opens_nothing(header: str) -> None:
    async with gate() as server:
        with pytest.raises(InvalidStatus) as caught:
            await by_header(server, header)
    assert caught.value.response.status_code == 401
    assert caught.value.response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@virtual
async def test_token_in_first_message() -> None:
    async with gate() as server, connect(uri(server, "/account")) as websocket:
        await tell(websocket, {"token": issue(KEY, ADA)})
        assert await hear(websocket) == {"user": "ada", "seconds": 1000}


WRONG: list[tuple[Any, str]] = [
    ({"token": "x.y"}, "wrong signature"),
    ({"token": "ä"}, "malformed token"),
    ({"token": issue(b"another", ADA)}, "wrong signature"),
    ({"token": issue(KEY, Token("ada", 999))}, "token expired"),
    ({"token": 1}, "a token is needed first"),
    ({"say": "hello"}, "a token is needed first"),
    ([], "a token is needed first"),
]


@pytest.mark.parametrize(("message", "reason"), WRONG)
@virtual
async def test_wrong_first_message(message: Any, reason: str) -> None:
    async with gate() as server, connect(uri(server, "/account")) as websocket:
        await tell(websocket, message)
        assert await refusal(websocket) == reason


@virtual
async def test_no_json() -> None:
    async with gate() as server, connect(uri(server, "/account")) as websocket:
        await websocket.send("{")
        assert await refusal(websocket) == "that is no JSON"


@virtual
async def test_no_token() -> None:
    async with gate() as server, connect(uri(server, "/account")) as websocket:
        assert await refusal(websocket) == "no token was given"
        assert websocket.loop.time() == 1000 + PATIENCE


@virtual
async def test_connection_ends_with_its_token() -> None:
    async with gate() as server, by_header(server, f"Bearer {issue(KEY, ADA)}") as websocket:
        await hear(websocket)
        assert await refusal(websocket) == "token expired"
        assert websocket.loop.time() == 2000


@virtual
async def test_renewal() -> None:
    async with gate() as server, by_header(server, f"Bearer {issue(KEY, ADA)}") as websocket:
        await hear(websocket)
        await asyncio.sleep(900)
        await tell(websocket, {"token": issue(KEY, Token("ada", 3000))})
        assert await hear(websocket) == {"user": "ada", "seconds": 1100}
        assert await refusal(websocket) == "token expired"
        assert websocket.loop.time() == 3000


@virtual
async def test_no_renewal_by_somebody_else() -> None:
    async with gate() as server, by_header(server, f"Bearer {issue(KEY, ADA)}") as websocket:
        await hear(websocket)
        await tell(websocket, {"token": issue(KEY, Token("grace", 3000))})
        assert await refusal(websocket) == "that is the token of somebody else"


@virtual
async def test_page() -> None:
    async with gate() as server:
        page = await fetch(server, "/")
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert (await fetch(server, "/other")).status == 404


@virtual
async def test_client(capsys: pytest.CaptureFixture[str]) -> None:
    async with gate() as server:
        await token_client.main(issue(KEY, ADA), uri(server, "/account"))
        with pytest.raises(SystemExit, match="401 Unauthorized: wrong signature"):
            await token_client.main(issue(b"another", ADA), uri(server, "/account"))
    assert capsys.readouterr().out.splitlines() == [
        '{"user": "ada", "seconds": 1000}',
        '{"user": "ada", "said": "Hello!"}',
    ]
