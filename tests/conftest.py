"""Settings of the whole suite.

Hypothesis runs the same examples each time, so that a red test stays red.
``HYPOTHESIS_PROFILE=long`` looks for new ones.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("suite", derandomize=True, deadline=None, max_examples=50, database=None)
settings.register_profile("long", derandomize=False, deadline=None, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))
