"""The programs of the page about trio and anyio."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
MARKED = re.compile(r"^<!-- run by: tests/trio/test_pages.py -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = MARKED.findall((HOWTO / "trio.md").read_text("utf-8"))


def test_there_are_programs() -> None:
    assert [re.findall(r"^(\w+)\.run\(main\)$", program, re.MULTILINE) for program in PROGRAMS] == [["trio"], ["anyio"]]


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(program, "trio.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == "Hello!\n"


def test_page_about_testing(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = MARKED.findall((HOWTO / "testing.md").read_text("utf-8"))
    exec(compile(program, "testing.md", "exec"), {"__name__": "__main__"})
    assert "keepalive" in capsys.readouterr().out
