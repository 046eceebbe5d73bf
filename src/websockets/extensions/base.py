"""What an extension is to the rest of the house: RFC 6455 section 9.

May know: frames, and parameters as the opening handshake carries them. Must not know: any particular extension, the
header they travel in, connections.

An extension changes frames on their way out and back on their way in. A factory, one on each side, negotiates it: the
client's puts an offer into the request and reads the answer, the server's reads the offer and gives the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..frames import Frame
from ..typing import ExtensionName, ExtensionParameter

__all__ = ["ClientExtensionFactory", "Extension", "ServerExtensionFactory"]


class Extension:
    """An extension in use on one connection. To be derived from."""

    # Without this, the slots of an extension would save nothing. A class derived without slots has its dictionary.
    __slots__ = ()

    name: ExtensionName
    """Name of the extension in ``Sec-WebSocket-Extensions``."""

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """Undo what the extension of the peer did to a frame.

        Parameters:
            frame: the frame received, or what the extensions after this one made of it; not to be changed.
            max_size: limit of the payload returned, in bytes; None for no limit.

        Returns:
            The frame to deliver.

        Raises:
            PayloadTooBig: the payload would exceed ``max_size``.
            ProtocolError: the frame isn't what the extension of the peer may make.
        """
        raise NotImplementedError

    def encode(self, frame: Frame) -> Frame:
        """Prepare a frame to be sent.

        Parameters:
            frame: the frame, perhaps shared by several connections; not to be changed.

        Returns:
            The frame to send.
        """
        raise NotImplementedError


class ClientExtensionFactory:
    """The client's part in negotiating an extension. To be derived from."""

    __slots__ = ()

    name: ExtensionName
    """Name of the extension in ``Sec-WebSocket-Extensions``."""

    def get_request_params(self) -> Sequence[ExtensionParameter]:
        """Make an offer.

        Returns:
            The parameters for the request; a parameter without a value has None for it.
        """
        raise NotImplementedError

    def process_response_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> Extension:
        """Read the answer of the server.

        Parameters:
            params: the parameters in the response.
            accepted_extensions: the extensions that came before this one in the response.

        Returns:
            The extension, set up as agreed.

        Raises:
            NegotiationError: the answer doesn't fit the offer.
        """
        raise NotImplementedError


class ServerExtensionFactory:
    """The server's part in negotiating an extension. To be derived from."""

    __slots__ = ()

    name: ExtensionName
    """Name of the extension in ``Sec-WebSocket-Extensions``."""

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], Extension]:
        """Answer an offer of the client.

        Parameters:
            params: the parameters in the offer.
            accepted_extensions: the extensions accepted before this one.

        Returns:
            The parameters for the response, and the extension, set up accordingly.

        Raises:
            NegotiationError: the offer is declined; the client may have made another one.
        """
        raise NotImplementedError


def encode_through(extensions: Sequence[Extension], frame: Frame) -> Frame:
    """A frame to send, after each extension has changed it (RFC 6455 section 9.1)."""
    for extension in extensions:
        frame = extension.encode(frame)
    return frame


def decode_through(extensions: Sequence[Extension], frame: Frame, max_size: int | None) -> Frame:
    """A frame that was received, before each extension of the peer changed it.

    Raises:
        PayloadTooBig: the payload would exceed ``max_size``.
        ProtocolError: it isn't a valid frame.
    """
    for extension in reversed(extensions):
        frame = extension.decode(frame, max_size=max_size)
    frame.check()
    return frame
