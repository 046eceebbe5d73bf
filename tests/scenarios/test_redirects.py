"""Redirects: where clients follow them to, with which credentials, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from _kit.site import Asked
from scenarios._answers import let_in, redirect
from scenarios._world import Capability, Peer, Step, World
from scenarios._worlds import in_every_world
from websockets.exceptions import (
    InvalidHeader,
    InvalidStatus,
    InvalidURI,
    SecurityError,
)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/b?c", "b?c", "ws://localhost:8000/b?c", "//localhost:8000/b?c", "./x/../b?c"])
@in_every_world(Capability.ADDRESSES)
async def test_redirect(world: World, status: int, location: str) -> None:
    async with world.site({"/a": redirect(location, status), "/b?c": let_in}, port=8000) as web:
        connecting = world.connect(web.uri("/a"))
        async with connecting as connection:
            assert connection.request is not None
            assert connection.request.path == "/b?c"
            assert connection.protocol.uri.resource_name == "/b?c"
        assert web.targets == ["/a", "/b?c"]
        assert len(web.visitors) == 2
        assert web.visitors[0].let_go
        # Another use begins where the first one did.
        assert connecting.uri == web.uri("/a")
        async with connecting:
            pass
        assert web.targets == ["/a", "/b?c"] * 2
        keys = [asked.headers["Sec-WebSocket-Key"][0] for asked in web.asked]
        assert len(set(keys)) == 4


@pytest.mark.parametrize(
    ("location", "target"),
    [("/b c", "/b%20c"), ("b?c=d e", "/b?c=d%20e"), ("/%C3%A9%20 x", "/%C3%A9%20%20x"), ("?c d", "/a%20b?c%20d")],
)
@in_every_world()
async def test_redirect_with_a_blank(world: World, location: str, target: str) -> None:
    async with world.site({"/a%20b": redirect(location), target: let_in}) as web:
        async with world.connect(web.uri("/a b")):
            pass
        assert web.targets == ["/a%20b", target]


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/caf\xc3\xa9?\xc3\xa9#top", "/caf%C3%A9?%C3%A9"),
        ("/caf\xe9", "/caf%E9"),
        ("caf\xc3\xa9 %20%C3%A9", "/caf%C3%A9%20%20%C3%A9"),
        ("http://localhost:8000/b#top", "/b"),
        ("HTTP://localhost:8000/b", "/b"),
    ],
)
@in_every_world(Capability.ADDRESSES)
async def test_redirect_as_servers_write_them(world: World, location: str, target: str) -> None:
    async with world.site({"/a": redirect(location, 308), target: let_in}, port=8000) as web:
        async with world.connect(web.uri("/a")):
            pass
        assert web.targets == ["/a", target]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\nsome text",
        b"HTTP/1.1 301\r\nContent-Length: 9\r\nLocation: /b\r\n\r\n",
        b"HTTP/1.0 302 Found\r\nLocation:\r\n /b\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 307 x\r\nTransfer-Encoding: chunked\r\nLocation: /b\r\n\r\nx\r\n",
    ],
)
@in_every_world()
async def test_redirect_whose_body_does_not_end(world: World, head: bytes) -> None:
    async def answer(peer: Peer, asked: Asked) -> None:
        await peer.write(head)
        await world.sleep(3600)

    async with world.site({"/a": answer, "/b": let_in}) as web:
        async with world.connect(web.uri("/a")):
            pass
        assert web.times == [0, 0]


@in_every_world(Capability.ADDRESSES)
async def test_redirect_with_a_blank_in_credentials(world: World) -> None:
    async with world.site({"/a": redirect("ws://us er:p w@localhost:8000/b"), "/b": let_in}, port=8000) as web:
        async with world.connect(web.uri("/a")):
            pass
        assert web.asked[1].headers["Authorization"] == ["Basic dXMgZXI6cCB3"]


@pytest.mark.parametrize("status", [304, 305, 306, 309, 200, 404])
@in_every_world()
async def test_no_redirect(world: World, status: int) -> None:
    async with world.site({"/a": redirect("/b", status)}) as web:
        with pytest.raises(InvalidStatus, match=f"HTTP {status}"):
            await world.connect(web.uri("/a"))


@pytest.mark.parametrize("location", [None, ["/b", "/c"]])
@in_every_world()
async def test_redirect_to_nowhere_or_to_several_places(world: World, location: Any) -> None:
    async with world.site({"/a": redirect(location)}) as web:
        with pytest.raises(InvalidStatus, match="HTTP 302"):
            await world.connect(web.uri("/a"))


@pytest.mark.scenario(72)
@in_every_world()
async def test_redirects_are_counted(world: World) -> None:
    async with world.site([redirect("/next")]) as web:
        with pytest.raises(SecurityError, match="^more than 10 redirects\n"):
            await world.connect(web.uri())
        assert len(web.asked) == 10


@in_every_world()
async def test_as_many_redirects_as_allowed(world: World) -> None:
    async with world.site([redirect("/next")] * 9 + [let_in]) as web:
        async with world.connect(web.uri()):
            pass
        assert len(web.asked) == 10


BAD_LOCATIONS = [
    ("http:", InvalidURI),
    ("https:///", InvalidURI),
    ("file:///etc/passwd", InvalidURI),
    ("ws://[::1:bad/", InvalidURI),
    ("ws://localhost:99999/", InvalidURI),
    ("ws://local host/", InvalidURI),
    ("ws://caf\xe9/", InvalidURI),
    ("/a\tb", InvalidURI),
    ("", InvalidHeader),
]


@pytest.mark.scenario(72)
@pytest.mark.parametrize(("location", "kind"), BAD_LOCATIONS)
@in_every_world()
async def test_redirect_to_what_is_no_place(world: World, location: str, kind: type[Exception]) -> None:
    async with world.site([redirect(location)]) as web:
        with pytest.raises(kind):
            await world.connect(web.uri())
        await world.settle()
        assert len(web.asked) == 1


@pytest.mark.scenario(72)
@in_every_world(Capability.ADDRESSES)
async def test_credentials_stay_with_their_origin(world: World) -> None:
    """Another scheme, host or port is another origin."""
    secrets = {"Authorization": "Basic secret", "cookie": "secret", "Proxy-Authorization": "secret", "X": "kept"}
    async with world.site({"/c": let_in}, "other", 80) as other:
        async with world.site({"/a": redirect("/b"), "/b": redirect("ws://other/c")}, port=80) as web:
            async with world.connect("ws://localhost/a", additional_headers=secrets):
                pass
    for asked in web.asked:
        assert {"Authorization", "cookie", "Proxy-Authorization", "X"} <= set(asked.headers)
    (asked,) = other.asked
    assert "secret" not in str(asked)
    assert asked.headers["X"] == ["kept"]
    assert secrets["cookie"] == "secret"


@in_every_world(Capability.ADDRESSES)
async def test_credentials_once_lost_stay_lost(world: World) -> None:
    async with world.site([redirect("ws://localhost:80/back")], port=81):
        async with world.site({"/": redirect("ws://localhost:81/"), "/back": let_in}, port=80) as web:
            async with world.connect("ws://localhost/", additional_headers={"Cookie": "secret"}):
                pass
    assert [asked.headers.get("Cookie") for asked in web.asked] == [["secret"], None]


@in_every_world(Capability.ADDRESSES)
async def test_credentials_in_the_uri(world: World) -> None:
    async with world.site([let_in], "other", 80) as other:
        async with world.site({"/a": redirect("/b"), "/b": redirect("ws://other/")}, port=80) as web:
            async with world.connect("ws://user:pass@localhost/a"):
                pass
    assert [asked.headers.get("Authorization") for asked in web.asked] == [["Basic dXNlcjpwYXNz"]] * 2
    assert "Authorization" not in other.asked[0].headers


@pytest.mark.parametrize("place", ["host", "port"])
@in_every_world(Capability.ADDRESSES)
async def test_redirect_of_an_explicit_place(world: World, place: str) -> None:
    async with world.site([redirect("/b"), redirect("ws://other/"), let_in], "elsewhere", 8000) as web:
        options: dict[str, Any] = {"host": "elsewhere"} if place == "host" else {"port": 8000}
        uri = "ws://example.com:8000/a" if place == "host" else "ws://elsewhere/a"
        error = f"^cannot follow cross-origin redirect to ws://other/ with an explicit ({place}|address)$"
        with pytest.raises(ValueError, match=error):
            await world.connect(uri, **options)
        assert web.targets == ["/a", "/b"]


@in_every_world()
async def test_one_deadline_for_all_redirects(world: World) -> None:
    async def slow(peer: Peer, asked: Asked) -> None:
        await world.sleep(2)
        await peer.write(redirect("/next"))

    async with world.site([slow]) as web:
        start = world.now()
        with pytest.raises(TimeoutError, match=f"^{world.late[Step.RESPONSE]}\\n"):
            await world.connect(web.uri(), open_timeout=5)
        assert world.now() - start == 5
        assert len(web.asked) == 3
