"""The session of a client during the opening handshake (RFC 6455 section 4.1).

May know: the protocol, the request, which responses end the opening handshake early. Must not know: how to wait; how
the connection to the server was made.
"""

from __future__ import annotations

from typing import Any

from .._rules.lifecycle import State
from ..client import ClientProtocol
from ..datastructures import HeadersLike
from ..http11 import Request, ResponseParser
from .redirects import is_redirect
from .session import Session

__all__ = ["ClientSession"]


class ClientSession(Session):
    """The session of a client, with the opening handshake.

    A front-end makes the request, sends it, and collects the output as usual. Then it waits until :attr:`opening` is
    false, and calls :meth:`check_opened`. If the timeout passes first, it calls :meth:`stop_opening`.
    """

    protocol: ClientProtocol

    # ------------------------------------------------------------------------------------------------------------ ask

    @property
    def opening(self) -> bool:
        """Whether the outcome of the opening handshake isn't known yet."""
        protocol = self.protocol
        return protocol.state is State.CONNECTING and protocol.handshake_exc is None

    def make_request(self, additional_headers: HeadersLike | None, user_agent: str | None) -> Request:
        """Return the request of the opening handshake.

        Parameters:
            additional_headers: headers to add to those of the protocol.
            user_agent: value of the ``User-Agent`` header, if ``additional_headers`` has none; None or empty for none.
        """
        request = self.protocol.connect()
        headers = request.headers
        # Our own protocol never sets this header, and looking for it is slow.
        known = type(self.protocol) is ClientProtocol
        if additional_headers is not None:
            headers.update(additional_headers)
            known = False
        if user_agent and (known or "User-Agent" not in headers):
            headers["User-Agent"] = user_agent
        return request

    def check_opened(self) -> None:
        """Raise the error of the opening handshake, if it failed.

        Raises:
            InvalidHandshake: the server refused, or its response isn't a valid opening handshake.
        """
        if self.protocol.handshake_exc is not None:
            raise self.protocol.handshake_exc

    # ------------------------------------------------------------------------------- tell: wishes of the application

    def send_request(self, request: Request, parser: ResponseParser | None = None) -> None:
        """Send the request of the opening handshake.

        Parameters:
            request: the request.
            parser: parser of the response; the default one doesn't wait for the body of a redirect, which isn't needed
                and may never end.
        """
        self.request = request
        self.protocol.read_response_with(ResponseParser(enough=is_redirect) if parser is None else parser)
        self.protocol.send_request(request)

    def stop_opening(self) -> Exception | None:
        """Stop waiting for the response.

        Returns:
            The refusal, if only the end of its body is missing; else None.
        """
        return self.protocol.take_cut_response()

    # ------------------------------------------------------------------------------------ tell: news from the network

    def connection_lost(self, exc: Exception | None) -> list[Any]:
        """Process the end of the TCP connection; see :meth:`Session.connection_lost`."""
        waiters = super().connection_lost(exc)
        failure = self.protocol.handshake_exc
        if exc is not None and failure is not None and failure.__cause__ is not None:
            failure.__cause__.__cause__ = exc
        return waiters
