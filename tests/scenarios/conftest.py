"""The choice of worlds for each scenario: the placeholder in threads runs only the first and the last case of each."""

from __future__ import annotations

import pytest

from scenarios._worlds import Front


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take a sample of the cases that are for a world that isn't all there."""
    cases: dict[tuple[object, str], list[pytest.Item]] = {}
    for item in items:
        front = getattr(item, "callspec", None) and item.callspec.params.get("world")  # type: ignore[attr-defined]
        if isinstance(front, Front) and front.topics is not None:
            cases.setdefault((item.path, item.originalname), []).append(item)  # type: ignore[attr-defined]
    left_out = {id(item) for several in cases.values() for item in several[1:-1]}
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if id(item) in left_out])
        items[:] = [item for item in items if id(item) not in left_out]
