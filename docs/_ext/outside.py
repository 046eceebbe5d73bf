"""Links to parts of the repository that aren't in the site, which are replaced by a text with the path.

Links to single files other than pages stay, because the site has copies of them.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]


def path_outside(app: Sphinx, node: pending_xref) -> Path | None:
    """Return the target of a link, if it is a folder or a page of the repository that isn't in the site."""
    docs = Path(app.srcdir).resolve()
    here = docs / Path(node["refdoc"]).parent
    paths = [(folder / node["reftarget"].partition("#")[0]).resolve() for folder in (docs, here)]
    for each in (*paths, *(path.with_name(f"{path.name}.md") for path in paths)):
        if each.exists() and each.is_relative_to(ROOT) and not each.is_relative_to(docs):
            return each.relative_to(ROOT)
    return None


def told(node: pending_xref, path: Path) -> list[nodes.Node]:
    """Return the text of a link, followed by the path unless the text is the path."""
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
