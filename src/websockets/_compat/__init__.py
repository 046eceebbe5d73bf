"""What is owed to earlier releases and to CPython: names that modules had before, and how objects are laid out.

May know: names and modules, as strings. Must not know: what they are for.
"""
