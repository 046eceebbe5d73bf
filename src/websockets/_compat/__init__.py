"""Compatibility with earlier releases and with CPython: earlier names of modules, and the memory layout of objects.

May know: names and modules, as strings. Must not know: their purpose.
"""
