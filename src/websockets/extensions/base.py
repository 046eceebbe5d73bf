"""Interface of extensions: RFC 6455 section 9.

May know: frames, and the parameters that the opening handshake carries. Must not know: any particular extension, the
header with the parameters, connections.

An extension changes frames before they are sent, and restores frames that are received. Each side has a factory that
negotiates it: the client's factory makes an offer and reads the answer; the server's factory reads the offer and
answers it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..frames import Frame
from ..typing import ExtensionName, ExtensionParameter

__all__ = ["ClientExtensionFactory", "Extension", "ServerExtensionFactory"]


class Extension:
    """An extension in use on one connection; a base class."""

    # Without this line, slots in a derived class would save no memory. A class without slots still gets a dictionary.
    __slots__ = ()

    name: ExtensionName
    """Name of the extension in ``Sec-WebSocket-Extensions``."""

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """Restore a frame that the peer's extension changed.

        Parameters:
            frame: the frame received, already decoded by the extensions after this one; it must not be changed.
            max_size: limit of the payload returned, in bytes; None (the default) for no limit.

        Returns:
            The frame to deliver.

        Raises:
            PayloadTooBig: the payload would exceed ``max_size``.
            ProtocolError: the peer's extension can't have made this frame.
        """
        raise NotImplementedError

    def encode(self, frame: Frame) -> Frame:
        """Prepare a frame for sending.

        Parameters:
            frame: the frame; it must not be changed, because several connections may share it.

        Returns:
            The frame to send.
        """
        raise NotImplementedError


class ClientExtensionFactory:
    """The client's part in negotiating an extension; a base class."""

    __slots__ = ()

    name: ExtensionName
    """Name of the extension in ``Sec-WebSocket-Extensions``."""

    def get_request_params(self) -> Sequence[ExtensionParameter]:
        """Make an offer.

        Returns:
            The parameters for the request; the value of a parameter without a value is None.
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
            NegotiationError: the answer doesn't match the offer.
        """
        raise NotImplementedError


class ServerExtensionFactory:
    """The server's part in negotiating an extension; a base class."""

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
    """Return a frame to send, encoded by each extension in order (RFC 6455 section 9.1)."""
    for extension in extensions:
        frame = extension.encode(frame)
    return frame


def decode_through(extensions: Sequence[Extension], frame: Frame, max_size: int | None) -> Frame:
    """Return a received frame, decoded by each extension in reverse order (RFC 6455 section 9.1).

    Raises:
        PayloadTooBig: the payload would exceed ``max_size``.
        ProtocolError: the frame isn't valid.
    """
    for extension in reversed(extensions):
        frame = extension.decode(frame, max_size=max_size)
    frame.check()
    return frame
