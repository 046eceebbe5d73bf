"""The measurement of loops in threads: each of them gets its own answers, shared messages among them."""

from __future__ import annotations

import pytest

from bench import threads


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_every_thread_gets_its_answers(compression: str | None) -> None:
    assert threads.rate(2, len(threads.SHARED), compression) > 0


def test_what_goes_wrong_in_a_thread_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "SHARED", [("another text", shared) for _, shared in threads.SHARED])
    with pytest.raises(AssertionError):
        threads.rate(2, 1, None)
