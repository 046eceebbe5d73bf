"""What the documentation refers to is there: links, names, environment variables."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import websockets
from _blocks.names import members
from _blocks.pages import pages
from _kit.each import for_each

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*(ROOT / page.name for page in pages()), *sorted((ROOT / "examples").glob("**/README.md"))]
REFERENCE = (DOCS / "reference.md").read_text("utf-8")

every_page = for_each([(page,) for page in PAGES], lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """The text of a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page, for links with ``#``: its headings, in the form that Markdown viewers give them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ---------------------------------------------------------------------------------------------------------------- links


@every_page
def test_links_resolve(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in link]
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def listed_pages(page: Path) -> set[Path]:
    """The pages that the tables of contents of a page lead to, itself included."""
    entries = "".join(re.findall(r"^```{toctree}\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE))
    found = {page}
    for entry in re.findall(r"^[\w*/-]+$", entries, re.MULTILINE):
        for other in page.parent.glob(f"{entry}.md"):
            found |= listed_pages(other)
    return found


def test_every_page_can_be_found() -> None:
    assert listed_pages(DOCS / "index.md") == {page for page in PAGES if page.is_relative_to(DOCS)}


@every_page
def test_files_in_commands_exist(page: Path) -> None:
    mentioned = re.findall(r"\b(?:tests|docs|examples|src)/[\w/.-]*\w", page.read_text("utf-8"))
    assert not [path for path in mentioned if not (ROOT / path).exists()]


# ------------------------------------------------------------------------------------------------------ set-ups of logs

LOGGING = next(page for page in pages() if page.name == "docs/logging.md")


def run(program: str) -> str:
    """What a program writes to standard error; it must end well."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUTF8": "1"}
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("program", [block.text for block in LOGGING.python])
def test_programs_about_logs_set_logs_up(program: str) -> None:
    log = run(program + 'logging.getLogger("websockets.server").error("shown")\n')
    assert log.endswith(" shown\n") is ("CRITICAL" not in program)


# ---------------------------------------------------------------------------------------------------------------- names


def listed() -> Iterator[tuple[str, str, bool]]:
    """Each name in the reference: where it is, the name, and whether it is marked as a name of the package itself."""
    for home, section in re.findall(r"^## `([\w.]+)`\n(.*?)(?=^## )", REFERENCE, re.DOTALL | re.MULTILINE):
        for names, star in re.findall(r"^- (`\w+`(?:, `\w+`)*)(\*?): \S", section, re.MULTILINE):
            for name in re.findall(r"\w+", names):
                yield home, name, bool(star)


def resolve(path: str) -> Any:
    """A module, or a class in one."""
    try:
        return import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(import_module(module), name)


# Type checkers see the names themselves, not the list of them.
EXPORTED: list[str] = vars(websockets)["__all__"]


@for_each([*listed()])
def test_listed_names_exist(home: str, name: str, star: bool) -> None:
    owner = resolve(home)
    if isinstance(owner, type) and not hasattr(owner, name):
        assert name in members(owner)
        return
    found = getattr(owner, name)
    assert star is (name in EXPORTED and getattr(websockets, name) is found)


def test_every_public_name_is_listed() -> None:
    assert {name for _, name, star in listed() if star} == {*EXPORTED} - {"__version__"}


def test_every_environment_variable_is_listed() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    read = set(re.findall(r'(?:os\.environ(?:\.get\(|\[)|number\(|chosen\()\s*"(WEBSOCKETS_\w+)"', source))
    assert set(re.findall(r"^\| `(WEBSOCKETS_\w+)` \|", REFERENCE, re.MULTILINE)) == read


# ------------------------------------------------------------------------------------------------------------- examples


def test_every_example_is_listed() -> None:
    """``examples/README.md`` has all: single programs, and folders by their README or their only program."""
    examples = ROOT / "examples"
    linked = {examples / link for link in re.findall(r"\]\(([^)]+)\)", (examples / "README.md").read_text("utf-8"))}
    programs = {*examples.glob("*.py")}
    folders = {path for path in examples.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert programs <= linked
    assert not {folder for folder in folders if not any(path.parent == folder for path in linked)}
