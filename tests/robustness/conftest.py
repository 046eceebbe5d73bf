"""Fixtures of the tests of robustness."""

from __future__ import annotations

import pytest

from robustness.worlds import swapped


@pytest.fixture
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the library use a twin of the accelerator; the name of the twin."""
    name: str = request.param
    places = list(swapped(name))
    # The decoder and the builders of frames are used by the protocol at least.
    assert len(places) >= 3
    for module, attribute, part in places:
        monkeypatch.setattr(module, attribute, part)
    return name
