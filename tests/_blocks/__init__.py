"""Blocks of code in the documentation: found, checked and run. ``docs/writing.md`` has the rules for authors."""
