"""Numbers in the index of the search, such as close codes, which Sphinx leaves out; ``search.js`` searches for them."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish


class English(SearchEnglish):
    """English, with numbers of three digits and more."""

    def word_filter(self, word: str) -> bool:
        """Return whether a word belongs into the index."""
        return super().word_filter(word) or (word.isdigit() and len(word) >= 3)


def on_page(app: Sphinx, name: str, template: str, context: dict[str, Any], doctree: object) -> None:
    if name == "search":
        app.add_js_file("search.js")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_search_language(English)
    app.connect("html-page-context", on_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
