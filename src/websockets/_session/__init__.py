"""The decisions of connections, clients and servers between two waits, shared by all front-ends.

May know: everything below, including the sans-I/O protocol. Must not know: how to wait. Nothing here waits, opens a
socket or reads a clock: the time is an argument.
"""
