"""Captions of blocks of code: the file that a block shows, or that a reader would save it as.

The comment before a block says it (see docs/writing.md), so viewers of the Markdown show no captions; the text there
names the files. A whole program that only serves is called ``server.py``, and one that only connects ``client.py``.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<says>[^\n]*?) -->\n *)?"
    r"(?P<ticks>```+)(?P<language>\w+)\n(?P<text>.*?)^ *(?P=ticks) *$",
    re.MULTILINE | re.DOTALL,
)

SAVED = re.compile(r"\bSave\s+(?:this|it)\s+as\s+`([\w.]+)`[^\n]*\s*\Z")

# A program that runs by itself, in any of the front-ends.
RUNS = re.compile(
    r"^(?:asyncio|trio|anyio|websockets\.anyio)?\.?run\(|^with (?:serve|connect)\(|^    asyncio\.run\(", re.MULTILINE
)
SERVES = re.compile(r"\b(?:unix_)?serve(?:_in_memory)?\(")
CONNECTS = re.compile(r"\b(?:unix_)?connect\(")


def words(says: str) -> dict[str, str]:
    """Return what a comment says."""
    pairs = (item.partition(":") for item in says.split(";") if item.strip())
    return {word.strip(): rest.strip() for word, _, rest in pairs}


def caption(language: str, text: str, says: dict[str, str], before: str) -> str | None:
    """Return the caption of a block, or None."""
    if "caption" in says:
        name = says["caption"]
    elif "file" in says:
        name = PurePosixPath(says["file"]).name
    elif saved := SAVED.search(before):
        name = saved[1]
    else:
        name = role(text) if language == "python" and not {"continues", "fragment"} & set(says) else ""
    if "not run" in says:
        name = f"{name} (no test runs this: {says['not run']})".lstrip()
    return name or None


def role(text: str) -> str:
    """Return the name that a program would have."""
    serves, connects = SERVES.search(text), CONNECTS.search(text)
    if not RUNS.search(text) or bool(serves) is bool(connects):
        return ""
    return "server.py" if serves else "client.py"


def add_captions(page: str) -> str:
    """Return a page with captions, as MyST has them."""

    def with_caption(found: re.Match[str]) -> str:
        before = page[max(0, found.start() - 300) : found.start()]
        name = caption(found["language"], found["text"], words(found["says"] or ""), before)
        if name is None:
            return found[0]
        indent, ticks = found["indent"], found["ticks"]
        head = f"{indent}{ticks}{{code-block}} {found['language']}\n{indent}:caption: {name}\n\n"
        return f"{head}{found['text']}{indent}{ticks}"

    return BLOCK.sub(with_caption, page)


def read(app: Sphinx, name: str, source: list[str]) -> None:
    source[0] = add_captions(source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
