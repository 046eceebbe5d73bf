"""Rules of the protocol that need neither bytes nor time: tables of states, messages from fragments, the handshake.

May know: the values of the public modules below, such as headers and exceptions. Must not know: connections.
"""
