"""The check of the built site finds links that lead nowhere, and what would be fetched from elsewhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def load(path: Path) -> ModuleType:
    """A module from its file; scripts are in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_site = load(Path(__file__).parents[2] / "docs" / "check_site.py")


@pytest.mark.parametrize(
    ("html", "complaint"),
    [
        ('<a href="other.html">', None),
        ('<a href="other.html#there">', None),
        ('<a href="other.html#not-there">', "leads nowhere: other.html#not-there"),
        ('<a href="missing.html">', "leads nowhere: missing.html"),
        ('<a id="here"><a href="#here">', None),
        ('<a href="#">', None),
        ('<a href="#nowhere">', "leads nowhere: #nowhere"),
        ('<a href="a%20b.txt">', None),
        ('<a href="https://example.com/">', None),
        ('<script src="script.js">', "leads nowhere: script.js"),
        ('<script src="https://example.com/script.js">', "fetches https://example.com/script.js"),
        ('<img src="//example.com/image.png">', "fetches //example.com/image.png"),
        ('<img src="data:image/png;base64,">', None),
        ('<link rel="stylesheet" href="https://example.com/style.css">', "fetches https://example.com/style.css"),
        ('<link rel="canonical" href="https://example.com/">', None),
    ],
)
def test_complaints(tmp_path: Path, capsys: pytest.CaptureFixture[str], html: str, complaint: str | None) -> None:
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    (tmp_path / "other.html").write_text('<p id="there">', encoding="utf-8")
    (tmp_path / "a b.txt").write_text("", encoding="utf-8")
    assert check_site.main([str(tmp_path)]) == bool(complaint)
    expected = [f"page.html: {complaint}", "2 pages, 1 complaints"] if complaint else ["2 pages, 0 complaints"]
    assert capsys.readouterr().out.splitlines() == expected


def test_a_site_without_pages(tmp_path: Path) -> None:
    assert check_site.main([str(tmp_path)]) == 1
