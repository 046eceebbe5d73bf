"""Settings of the interoperability tests."""

from __future__ import annotations

import pytest

# It compares reports; a failed comparison should show in what they differ.
pytest.register_assert_rewrite("interop.conversation")
