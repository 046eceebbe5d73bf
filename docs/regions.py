"""Regions of pages that scripts generate, each between two marks.

May know: the form of the marks, and the command line of such a script. Must not know: the contents of a region.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Region(NamedTuple):
    """A part of a page.

    Attributes:
        page: path of the page, relative to the folder of this file.
        name: name of the region in its marks.
        make: returns the contents of the region, as paragraphs.
    """

    page: str
    name: str
    make: Callable[[], list[str]]

    def text(self) -> str:
        """Return the generated region, with its marks."""
        begin, end = self._marks()
        return "\n\n".join([begin, *self.make(), end])

    def renewed(self, page: str) -> str:
        """Return the text of the page with a newly generated region.

        Raises:
            ValueError: a mark is missing.
        """
        begin, end = self._marks()
        before, found, rest = page.partition(begin)
        _, found_too, after = rest.partition(end)
        if not (found and found_too):
            raise ValueError(f"the page must contain {begin} and, after it, {end}")
        return before + self.text() + after

    def main(self, arguments: list[str] | None = None, folder: Path = Path(__file__).parent) -> None:
        """Print the region, or write it into the page."""
        parser = argparse.ArgumentParser(description=f"Make the region {self.name!r} of {self.page}.")
        parser.add_argument("--write", action="store_true", help="write it into the page instead of printing it")
        if parser.parse_args(arguments).write:
            page = folder / self.page
            page.write_text(self.renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
        else:
            print(self.text())

    def _marks(self) -> tuple[str, str]:
        return f"<!-- {self.name}:begin -->", f"<!-- {self.name}:end -->"
