"""A connected pair of protocols: two ends of one connection, without a network.

May know: the sans-I/O protocols of the library, which the core tests are about.
"""

from __future__ import annotations

from typing import Any

from websockets.client import ClientProtocol
from websockets.protocol import Event, Protocol, State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

__all__ = ["ProtocolPair"]


class ProtocolPair:
    """A client and a server after their opening handshake.

    Parameters:
        uri: where the client connects.
        client: options of the client's protocol.
        server: options of the server's protocol.
    """

    def __init__(
        self, uri: str = "ws://example.com/", client: dict[str, Any] | None = None, server: dict[str, Any] | None = None
    ) -> None:
        self.client = ClientProtocol(parse_uri(uri), **client or {})
        self.server = ServerProtocol(**server or {})
        self.client.send_request(self.client.connect())
        self.carry(self.client, self.server)
        (self.request,) = self.server.events_received()
        self.response = self.server.accept(self.request)  # type: ignore[arg-type]
        self.server.send_response(self.response)
        self.carry(self.server, self.client)
        assert [self.response] == self.client.events_received()
        assert (self.client.state, self.server.state) == (State.OPEN, State.OPEN)

    def carry(self, source: Protocol, target: Protocol) -> bytes:
        """Give ``target`` what ``source`` has to send; return the bytes."""
        sent = source.data_to_send()
        for data in sent:
            if data:
                target.receive_data(data)
            else:
                target.receive_eof()
        return b"".join(sent)

    def settle(self) -> None:
        """Carry both ways until neither end has anything to say."""
        while self.carry(self.client, self.server) or self.carry(self.server, self.client):
            pass

    def events(self) -> tuple[list[Event], list[Event]]:
        """What the client and the server received, once everything was carried."""
        self.settle()
        return self.client.events_received(), self.server.events_received()
