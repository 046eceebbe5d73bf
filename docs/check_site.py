"""Check a built site: every internal link has a target, and pages load nothing from other sites.

Run it with ``python docs/check_site.py build/site``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Elements whose target is loaded with the page, with their attributes; a link in <a> is only followed.
FETCHED = dict.fromkeys(("script", "img", "iframe", "source", "video", "audio", "embed"), "src")
# Relations of a <link> that only refer to other pages; the target of any other <link> is loaded.
NOT_FETCHED = {"canonical", "next", "prev", "search", "index", "author", "copyright", "genindex"}


class Document(HTMLParser):
    """A page.

    Attributes:
        anchors: names that may follow the ``#`` in a link to it.
        links: targets of its links, and whether each is loaded with the page.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[tuple[str, bool]] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.anchors |= {attributes[name] for name in ("id", "name") if name in attributes}
        if tag == "a" and "href" in attributes:
            self.links.append((attributes["href"], False))
        elif tag == "link" and "href" in attributes:
            self.links.append((attributes["href"], attributes.get("rel") not in NOT_FETCHED))
        elif tag in FETCHED and FETCHED[tag] in attributes:
            self.links.append((attributes[FETCHED[tag]], True))


def complaints(site: Path) -> Iterator[str]:
    """Yield a text for each broken link of a site, and for each one that loads from another site."""
    documents = {path.resolve(): Document(path) for path in sorted(site.rglob("*.html"))}
    for path, document in documents.items():
        for link, fetched in document.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if fetched and parts.scheme != "data":
                    yield f"{path.relative_to(site.resolve())}: fetches {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = documents.get(target)
            anchor = unquote(parts.fragment)
            if not target.is_file() or (known is not None and anchor and anchor not in known.anchors):
                yield f"{path.relative_to(site.resolve())}: leads nowhere: {link}"


def main(arguments: list[str]) -> int:
    """Print complaints; return the status for the shell."""
    (folder,) = arguments
    site = Path(folder)
    pages = len([*site.rglob("*.html")])
    found = [*complaints(site)]
    for line in found:
        print(line)
    print(f"{pages} pages, {len(found)} complaints")
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
