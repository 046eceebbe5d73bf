"""What a connection, a client and a server decide between two waits, the same for every front-end.

May know: everything below, the sans-I/O protocol included. Must not know: how waiting is done. Nothing here waits,
opens a socket or reads a clock: the time is an argument.
"""
