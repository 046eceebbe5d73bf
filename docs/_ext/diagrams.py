"""State diagrams in Mermaid, shown as tables, because the site has no program to draw them and loads none.

Viewers of the Markdown, for example on a code forge, draw the diagrams.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

ARROW = re.compile(r"^ *(\S+) --> (\w+)(?:: (.+))?$", re.MULTILINE)


def row(cells: Sequence[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", text)) for text in cells))


def table(arrows: Sequence[Sequence[str]]) -> nodes.table:
    """Return a table of arrows: from, to, and the event."""
    head, body = nodes.thead("", row(["from", "to", "by"])), nodes.tbody("", *map(row, arrows))
    columns = [nodes.colspec(colwidth=width) for width in (20, 20, 60)]
    return nodes.table("", nodes.tgroup("", *columns, head, body, cols=len(columns)), align="left")


def process(app: Sphinx, document: nodes.document) -> None:
    for block in list(document.findall(nodes.literal_block)):
        if block.get("language") == "mermaid" and block.astext().startswith("stateDiagram"):
            arrows = ARROW.findall(block.astext().replace("[*]", "(begin)"))
            block.replace_self(table(arrows))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_lexer("mermaid", TextLexer)
    app.connect("doctree-read", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
