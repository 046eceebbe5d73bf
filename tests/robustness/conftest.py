"""Fixtures of the tests of robustness."""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any

import pytest

from robustness.worlds import swapped


@functools.cache
def places_of(twin: str, modules: int) -> list[tuple[ModuleType, str, Any]]:
    """The places to change, which are looked for only once for this number of modules: there are many of both."""
    return list(swapped(twin))


@pytest.fixture
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the library use a twin of the accelerator; the name of the twin."""
    name: str = request.param
    places = places_of(name, len(sys.modules))
    # The decoder and the builders of frames are used by the protocol at least.
    assert len(places) >= 3
    for module, attribute, part in places:
        monkeypatch.setattr(module, attribute, part)
    return name
