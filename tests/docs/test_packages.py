"""What the package says of itself: groups of dependencies, classifiers, and the README as an index shows it."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
import types
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def for_index() -> Callable[[str, str | None, str], str]:
    spec = importlib.util.spec_from_file_location("setup_of_this_package", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # It isn't there in every environment, and what is tested doesn't need it.
        patch.setitem(sys.modules, "setuptools", types.SimpleNamespace(setup=None))
        spec.loader.exec_module(module)
    function: Callable[[str, str | None, str], str] = module.for_index
    return function


def test_extra_for_old_pips_is_the_group() -> None:
    assert PROJECT["project"]["optional-dependencies"]["test"] == PROJECT["dependency-groups"]["test"]


def test_extras_are_for_users() -> None:
    """Tools of development are no part of what is published, apart from those for the test command of the README."""
    assert not ({*PROJECT["project"]["optional-dependencies"]} & {*PROJECT["dependency-groups"]}) - {"test"}


@pytest.mark.parametrize(
    ("text", "without", "within"),
    [
        ("[a b](docs/x.md)", "a b (`docs/x.md`)", "[a b](https://host/us/blob/1.0/docs/x.md)"),
        ("[`docs/x.md`](docs/x.md)", "`docs/x.md`", "[`docs/x.md`](https://host/us/blob/1.0/docs/x.md)"),
        ("[a\nb](docs/x.md#c)", "a\nb (`docs/x.md`)", "[a\nb](https://host/us/blob/1.0/docs/x.md#c)"),
        ("[a](examples/)", "a (`examples`)", "[a](https://host/us/blob/1.0/examples)"),
        ("[a](https://x.org/y)", "[a](https://x.org/y)", "[a](https://x.org/y)"),
        ("[a](#b)", "[a](#b)", "[a](#b)"),
    ],
)
def test_links(for_index: Callable[[str, str | None, str], str], text: str, without: str, within: str) -> None:
    assert for_index(text, None, "1.0") == without
    assert for_index(text, "https://host/us/", "1.0") == within


def test_no_link_of_the_readme_leads_nowhere(for_index: Callable[[str, str | None, str], str]) -> None:
    relative = r"\]\((?!\w+:|#)[^)]*\)"
    assert re.search(relative, README)
    for repository in (None, "https://host/us"):
        assert not re.search(relative, for_index(README, repository, "18.0"))
