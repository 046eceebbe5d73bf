"""Settings of the interoperability tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.frameworks import install_frameworks

# It compares reports; a failed comparison should show in what they differ.
pytest.register_assert_rewrite("interop.conversation")


@pytest.fixture(scope="session")
def frameworks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the frameworks and our package."""
    return install_frameworks(tmp_path_factory.mktemp("frameworks"))
