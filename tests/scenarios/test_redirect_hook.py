"""Programs that decide which redirects to follow: ``connect.process_redirect``."""

from __future__ import annotations

from typing import Any

import pytest

from scenarios._answers import let_in, redirect, refuse
from scenarios._world import Answer, World
from scenarios._worlds import in_every_world
from websockets.exceptions import InvalidStatus, InvalidURI, SecurityError


def careful(world: World, uri: str) -> Any:
    """A client that follows redirects to itself only, and remembers what it was asked."""

    class Careful(world.client):  # type: ignore[misc, name-defined]
        def __init__(self, uri: str) -> None:
            super().__init__(uri)
            self.asked: list[tuple[str, str]] = []

        def process_redirect(self, exc: Exception) -> Exception | str:
            target: Exception | str = super().process_redirect(exc)
            self.asked.append((self.uri, str(target)))
            if isinstance(target, str) and "//localhost" not in target:
                return SecurityError(f"not to {target}")
            return target

    return Careful(uri)


@in_every_world()
async def test_followed_redirects(world: World) -> None:
    answers: dict[str, Answer] = {"/1": redirect("/2"), "/2": redirect("3"), "/3": let_in}
    async with world.site(answers) as here:
        connecting = careful(world, here.uri("/1"))
        async with connecting:
            assert connecting.asked == [(here.uri("/1"), here.uri("/2")), (here.uri("/2"), here.uri("/3"))]
        # Another attempt begins where the first did.
        assert connecting.uri == here.uri("/1")
    assert here.targets == ["/1", "/2", "/3"]


@in_every_world()
async def test_refused_redirect(world: World) -> None:
    async with world.site([redirect("ws://elsewhere/")]) as here:
        connecting = careful(world, here.uri())
        with pytest.raises(SecurityError, match=r"^not to ws://elsewhere/$") as raised:
            await connecting
        assert isinstance(raised.value.__cause__, InvalidStatus)
        assert connecting.uri == here.uri()


@in_every_world()
async def test_refused_redirect_names_the_way(world: World) -> None:
    async with world.site([redirect("/2"), redirect("ws://elsewhere/")]) as here:
        with pytest.raises(SecurityError) as raised:
            await careful(world, here.uri("/1"))
        assert raised.value.__notes__ == [f"Redirected: {here.uri('/1')} -> {here.uri('/2').removesuffix('/2')}/2"]


@in_every_world()
async def test_what_is_no_redirect(world: World) -> None:
    async with world.site([refuse(404)]) as here:
        connecting = careful(world, here.uri())
        with pytest.raises(InvalidStatus, match="HTTP 404") as raised:
            await connecting
        assert connecting.asked == [(here.uri(), str(raised.value))]


@in_every_world()
async def test_redirect_to_no_uri(world: World) -> None:
    async with world.site([redirect("ws://[")]) as here:
        with pytest.raises(InvalidURI) as raised:
            await careful(world, here.uri())
        # The parser of the standard library is none: its error could show credentials.
        assert isinstance(raised.value.__cause__, InvalidStatus)
