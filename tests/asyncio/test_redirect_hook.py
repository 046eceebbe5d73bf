"""Programs that decide for themselves which redirects to follow: ``connect.process_redirect``."""

from __future__ import annotations

import pytest

from _kit import virtual
from _kit.site import Answer, let_in, redirect, refuse, site
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, InvalidURI, SecurityError


class Careful(connect):
    """Follows redirects to itself only, and remembers what it was asked."""

    asked: list[tuple[str, str]]

    def process_redirect(self, exc: Exception) -> Exception | str:
        target = super().process_redirect(exc)
        self.asked = [*getattr(self, "asked", []), (self.uri, str(target))]
        if isinstance(target, str) and "//localhost" not in target:
            return SecurityError(f"not to {target}")
        return target


@virtual
async def test_followed_redirects() -> None:
    answers: dict[str, Answer] = {"/1": redirect("/2"), "/2": redirect("3"), "/3": let_in}
    async with site(answers) as here:
        connecting = Careful(here.uri("/1"))
        async with connecting:
            assert connecting.asked == [(here.uri("/1"), here.uri("/2")), (here.uri("/2"), here.uri("/3"))]
        # Another attempt begins where the first did.
        assert connecting.uri == here.uri("/1")
    assert here.targets == ["/1", "/2", "/3"]


@virtual
async def test_refused_redirect() -> None:
    async with site([redirect("ws://elsewhere/")]) as here:
        connecting = Careful(here.uri())
        with pytest.raises(SecurityError, match=r"^not to ws://elsewhere/$") as raised:
            await connecting
        assert isinstance(raised.value.__cause__, InvalidStatus)
        assert connecting.uri == here.uri()


@virtual
async def test_what_is_no_redirect() -> None:
    async with site([refuse(404)]) as here:
        connecting = Careful(here.uri())
        with pytest.raises(InvalidStatus, match="HTTP 404") as raised:
            await connecting
        assert connecting.asked == [(here.uri(), str(raised.value))]


@virtual
async def test_redirect_to_no_uri() -> None:
    async with site([redirect("ws://[")]) as here:
        with pytest.raises(InvalidURI) as raised:
            await Careful(here.uri())
        # The parser of the standard library is none: its error could show credentials.
        assert isinstance(raised.value.__cause__, InvalidStatus)
