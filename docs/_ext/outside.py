"""Links to what is in the repository, but not in the site: the text tells the path instead.

Single files other than pages stay links: a copy of them is part of the site.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]


def path_outside(app: Sphinx, node: pending_xref) -> Path | None:
    """Where a link leads, if that is a folder or a page in the repository that isn't one of the site."""
    docs = Path(app.srcdir).resolve()
    here = docs / Path(node["refdoc"]).parent
    paths = [(folder / node["reftarget"].partition("#")[0]).resolve() for folder in (docs, here)]
    for each in (*paths, *(path.with_name(f"{path.name}.md") for path in paths)):
        if each.exists() and each.is_relative_to(ROOT) and not each.is_relative_to(docs):
            return each.relative_to(ROOT)
    return None


def told(node: pending_xref, path: Path) -> list[nodes.Node]:
    """The text of a link, and the path unless it says the path already."""
    name = (path.parent if path.name == "README.md" and len(path.parts) > 1 else path).as_posix()
    if name in node.astext():
        return list(node.children)
    return [*node.children, nodes.Text(" ("), nodes.literal("", name), nodes.Text(")")]


def process(app: Sphinx, document: nodes.document) -> None:
    for node in list(document.findall(pending_xref)):
        if node.get("refdomain") == "doc" or node.get("reftype") == "myst":
            path = path_outside(app, node)
            if path is not None:
                node.replace_self(told(node, path))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
