"""Regions of pages that scripts make: printed, written, and refused where their marks are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from regions import Region

REGION = Region("page.md", "counted", lambda: ["one", "two"])
FRESH = "<!-- counted:begin -->\n\none\n\ntwo\n\n<!-- counted:end -->"


def test_write_renews_a_stale_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("é\n<!-- counted:begin -->\nstale\n<!-- counted:end -->\nafter\n", encoding="utf-8")
    REGION.main(["--write"], tmp_path)
    assert page.read_text("utf-8") == f"é\n{FRESH}\nafter\n"


def test_print(capsys: pytest.CaptureFixture[str]) -> None:
    REGION.main([])
    assert capsys.readouterr().out == FRESH + "\n"


@pytest.mark.parametrize("page", ["", "<!-- counted:begin -->", "<!-- counted:end --><!-- counted:begin -->"])
def test_page_without_marks(page: str) -> None:
    with pytest.raises(ValueError, match="must contain <!-- counted:begin -->"):
        REGION.renewed(page)
