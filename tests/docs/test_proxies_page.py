"""The page on proxies says what the code does: which variable counts, what is excepted, what is tried again."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from websockets.client import RETRIED_REPLIES, RETRIED_STATUSES
from websockets.proxy import ALIASES, DEFAULT_PORTS, SYSTEM_PROXIES, get_proxy
from websockets.uri import parse_uri

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "proxies.md").read_text("utf-8")


def table(first_heading: str) -> list[list[list[str]]]:
    """Return a table of the page: what is code in each cell of each row."""
    _, _, rest = PAGE.partition(f"\n| {first_heading} |")
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    return [[re.findall(r"`([^`]+)`", cell) for cell in row.strip("|").split(" | ")] for row in rows]


EXCEPTIONS = table("entry")


@pytest.fixture(autouse=True)
def no_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.lower().endswith("_proxy") or name == "REQUEST_METHOD":
            monkeypatch.delenv(name)


def test_variables_and_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table("target")
    assert len(rows) == 2
    for (scheme,), variables in rows:
        uri = parse_uri(f"{scheme}example.com/")
        assert variables == [f"{name}_proxy" for name in SYSTEM_PROXIES[uri.secure]]
        for variable in reversed(variables):
            monkeypatch.setenv(variable, f"socks5h://{variable}")
            assert get_proxy(uri) == f"socks5h://{variable}"
        for variable in variables:
            monkeypatch.delenv(variable)


@pytest.mark.parametrize(("entry", "exempt", "proxied"), EXCEPTIONS, ids=[row[0][0] for row in EXCEPTIONS])
def test_exceptions(entry: list[str], exempt: list[str], proxied: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy")
    monkeypatch.setenv("no_proxy", f"other.example, {entry[0]}")
    assert exempt
    assert [target for target in exempt if get_proxy(parse_uri(f"ws://{target}/"))] == []
    assert [target for target in proxied if not get_proxy(parse_uri(f"ws://{target}/"))] == []


def test_kinds_of_proxies() -> None:
    (row,) = re.findall(r"\n\| `proxy=` \|(.+?)\n\n", PAGE, re.DOTALL)
    schemes = set(re.findall(r'`"(\w+)://', row))
    assert schemes == set(DEFAULT_PORTS) | set(ALIASES)


def test_what_is_tried_again() -> None:
    statuses = re.search(r"tried again for ([\d, and]+);", PAGE)
    assert statuses is not None
    assert {int(number) for number in re.findall(r"\d+", statuses[1])} == RETRIED_STATUSES
    replies = re.search(r"can't reach the server \(([^)]+) in version 4\)", PAGE)
    assert replies is not None
    assert {int(number) for number in re.findall(r"\d+", replies[1])} == RETRIED_REPLIES
