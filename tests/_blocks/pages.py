"""The blocks of code of a page, with what the comments before them say.

May know: Markdown, as far as fences and comments go. Must not know: what the code does.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

__all__ = ["NOT_HERE", "ROOT", "Block", "Page", "PageError", "Part", "pages"]

ROOT = Path(__file__).parents[2]

FENCE = re.compile(
    r"(?:^ *<!-- (?P<comment>[^\n]*?) -->\n)?"
    r"^(?P<indent> *)(?P<ticks>```+)(?P<info>[^\n`]*)\n"
    r"(?P<text>.*?)"
    r"^(?P=indent)(?P=ticks) *$",
    re.MULTILINE | re.DOTALL,
)

# What a comment may say, and whether something follows the word.
DIRECTIVES = {
    "continues": False,
    "caption": True,
    "name": True,
    "beside": True,
    "goes on": False,
    "output": False,
    "file": True,
    "fragment": None,
    "run by": True,
    "not run": True,
}

# Blocks that aren't programs to be run as they are, or that something else runs.
NOT_HERE = {"file", "fragment", "run by", "not run"}


class PageError(Exception):
    """A page breaks a rule for authors."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Code and where it stands."""

    page: str
    line: int
    text: str


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: its page, relative to the repository.
        line: the line of its first line.
        language: what the fence says.
        text: the code.
        says: what the comment before it says: words with what follows them.
    """

    page: str
    line: int
    language: str
    text: str
    says: dict[str, str]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def part(self) -> Part:
        return Part(self.page, self.line, self.text)

    @property
    def runs(self) -> bool:
        """Whether it's a program to be run."""
        return self.language == "python" and not NOT_HERE & set(self.says)

    @property
    def supposed(self) -> set[str]:
        """The names that a fragment doesn't define."""
        return set(re.findall(r"\w+", self.says.get("fragment", "")))

    @property
    def companions(self) -> list[str]:
        """The names of the programs to run beside it."""
        return [name.strip() for name in self.says.get("beside", "").split(",") if name.strip()]


class Page:
    """A page of the documentation.

    Raises:
        PageError: a comment before a block says what makes no sense.
    """

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
        self.text = path.read_text("utf-8") if text is None else text
        self.blocks = [*self._find()]
        self.python = [block for block in self.blocks if block.language == "python"]

    def _find(self) -> Iterator[Block]:
        for found in FENCE.finditer(self.text):
            line = self.text.count("\n", 0, found.start("text")) + 1
            says = self._directives(found["comment"] or "", line)
            yield Block(self.name, line, found["info"].strip(), textwrap.dedent(found["text"]), says)

    def _directives(self, comment: str, line: int) -> dict[str, str]:
        says = {}
        for item in filter(None, (item.strip() for item in comment.split(";"))):
            word, colon, rest = item.partition(":")
            takes = DIRECTIVES.get(word, "unknown")
            if takes == "unknown" or (takes is not None and takes is not bool(colon and rest.strip())):
                raise PageError(f"{self.name}:{line}: the comment before the block says {item!r}")
            says[word] = rest.strip()
        return says

    def parts(self, block: Block) -> list[Part]:
        """The blocks that make up a program: itself, after those that it continues."""
        if "continues" not in block.says:
            return [block.part]
        before = self._before(block)
        if block.runs and not before.runs:
            raise PageError(f"{block}: this is to be run, but what it continues isn't")
        return [*self.parts(before), block.part]

    def supposed(self, block: Block) -> set[str]:
        """The names that a block, and those that it continues, don't define."""
        inherited = self.supposed(self._before(block)) if "continues" in block.says else set()
        return block.supposed | inherited

    def _before(self, block: Block) -> Block:
        earlier = [other for other in self.python if other.line < block.line]
        if not earlier:
            raise PageError(f"{block}: there is no python block before this one")
        return earlier[-1]

    def named(self, name: str) -> Block:
        """The program of a name."""
        found = [block for block in self.python if block.says.get("name") == name]
        if len(found) != 1 or not found[0].runs:
            raise PageError(f"{self.name}: there must be one program named {name!r}")
        return found[0]

    def output(self, block: Block) -> Block | None:
        """The block that has what a program prints, which comes next."""
        after = next((other for other in self.blocks if other.line > block.line), None)
        return after if after is not None and "output" in after.says else None


@functools.cache
def pages() -> list[Page]:
    """All pages, the README first."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
    return [Page(path) for path in paths]
