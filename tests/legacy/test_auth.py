"""Basic authentication in the legacy API."""

from __future__ import annotations

import base64
from http import HTTPStatus
from typing import Any

import pytest

from _kit import request, virtual
from _kit.asking import ask, uri_of
from websockets.datastructures import Headers
from websockets.legacy.auth import BasicAuthWebSocketServerProtocol, basic_auth_protocol_factory
from websockets.legacy.client import connect
from websockets.legacy.exceptions import InvalidStatusCode
from websockets.legacy.server import HTTPResponse, WebSocketServerProtocol, serve


async def tell_name(websocket: WebSocketServerProtocol) -> None:
    await websocket.send(websocket.username)


async def check(username: str, password: str) -> bool:
    return (username, password) == ("ann", "secret")


def simple_check(username: str, password: str) -> bool:
    return (username, password) == ("ann", "secret")


class OfClass(BasicAuthWebSocketServerProtocol):
    realm = "class"

    async def check_credentials(self, username: str, password: str) -> bool:
        return await check(username, password)


FACTORIES: list[tuple[Any, str]] = [
    (basic_auth_protocol_factory("realm", credentials=("ann", "secret")), "realm"),
    (basic_auth_protocol_factory("realm", credentials=[("bob", "x"), ("ann", "secret")]), "realm"),
    (basic_auth_protocol_factory("realm", check_credentials=check), "realm"),
    (basic_auth_protocol_factory(check_credentials=simple_check), ""),  # type: ignore[arg-type]
    (basic_auth_protocol_factory(check_credentials=check, create_protocol=OfClass), "class"),
    (OfClass, "class"),
]


@pytest.mark.parametrize(("create_protocol", "realm"), FACTORIES)
@virtual
async def test_credentials(create_protocol: Any, realm: str) -> None:
    async with serve(tell_name, "localhost", 0, create_protocol=create_protocol) as server:
        async with connect(uri_of(server, user_info="ann:secret@")) as client:
            assert await client.recv() == "ann"
        with pytest.raises(InvalidStatusCode) as caught:
            await connect(uri_of(server, user_info="ann:other@"))
        assert caught.value.status_code == 401
        answer = await ask(server, request())
        assert (answer.status, answer.body) == ("401 Unauthorized", b"Missing credentials\n")
        assert answer.headers["WWW-Authenticate"] == [f'Basic realm="{realm}", charset="UTF-8"']


@virtual
async def test_other_credentials() -> None:
    async with serve(tell_name, "localhost", 0, create_protocol=BasicAuthWebSocketServerProtocol) as server:
        answer = await ask(server, request(headers={"Authorization": "Digest x"}))
        assert (answer.status, answer.body) == ("401 Unauthorized", b"Unsupported credentials\n")
        # Without a check, nobody is let in.
        basic = base64.b64encode(b"ann:secret").decode()
        answer = await ask(server, request(headers={"Authorization": f"Basic {basic}"}))
        assert (answer.status, answer.body) == ("401 Unauthorized", b"Invalid credentials\n")


@virtual
async def test_process_request_comes_after() -> None:
    async def process_request(path: str, request_headers: Headers) -> HTTPResponse | None:
        return (HTTPStatus.OK, [], b"OK\n") if path == "/health" else None

    async with serve(tell_name, "localhost", 0, create_protocol=OfClass, process_request=process_request) as server:
        assert (await ask(server, request("/health"))).status == "401 Unauthorized"
        basic = base64.b64encode(b"ann:secret").decode()
        answer = await ask(server, request("/health", headers={"Authorization": f"Basic {basic}"}))
        assert (answer.status, answer.body) == ("200 OK", b"OK\n")


def test_arguments() -> None:
    with pytest.raises(ValueError, match="provide either credentials or check_credentials"):
        basic_auth_protocol_factory("realm")
    with pytest.raises(ValueError, match="provide either credentials or check_credentials"):
        basic_auth_protocol_factory("realm", ("a", "b"), check)
    with pytest.raises(TypeError, match="invalid credentials argument"):
        basic_auth_protocol_factory("realm", credentials=["a"])  # type: ignore[list-item]
