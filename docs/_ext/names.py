"""Links from the list of public names to their descriptions in the reference."""

from __future__ import annotations

import re
from collections.abc import Iterator

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

PAGE = "reference"


def leading_names(item: nodes.list_item) -> Iterator[nodes.literal]:
    """Yield the names at the beginning of an entry, before the colon."""
    for child in item[0].children:
        if isinstance(child, nodes.literal):
            yield child
        elif ":" in child.astext():
            return


def link(literal: nodes.literal, target: str) -> None:
    attributes = {"refdomain": "py", "reftype": "obj", "reftarget": target, "refdoc": PAGE}
    literal.replace_self(pending_xref("", literal.deepcopy(), refexplicit=True, refwarn=True, **attributes))


def process(app: Sphinx, document: nodes.document) -> None:
    if app.env.docname != PAGE:
        return
    for section in document.findall(nodes.section):
        home = section[0].astext()
        if re.fullmatch(r"websockets[\w.]*", home):
            for item in section.findall(nodes.list_item):
                for literal in [*leading_names(item)]:
                    link(literal, f"{home}.{literal.astext()}")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
