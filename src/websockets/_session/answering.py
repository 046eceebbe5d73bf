"""The order of an answer to a request, and what each failure on the way means: RFC 6455 section 4.2.2.

May know: the options of a server, which hooks of the user have a say, what a connection tells the log. Must not know:
how a hook is called or waited for, see :mod:`.hooks`; what a good request is, which is for the protocol.

An answer comes about in this order. Is there room for the connection? Otherwise the request is refused, and nothing
else happens. ``process_request`` may answer. If it doesn't: does the server shut down? Otherwise the protocol accepts
or refuses, and ``select_subprotocol`` chooses. The ``Server`` header is added, and ``process_response`` may change or
replace the response. Then it is sent, if somebody is still there to get it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from .._rules.capacity import RETRY_AFTER
from ..http11 import Request, Response
from ..server import (
    ServerProtocol,
    add_subprotocol,
    decline,
    deferred_offer,
    fail,
    has_selector,
    unanswered_request,
    unavailable,
)
from ..typing import LoggerLike
from .hooks import CallHook, Steps
from .server_session import HandlerState

if TYPE_CHECKING:
    from .options import ServerOptions
    from .registry import Registry
    from .server_session import ServerSession

__all__ = ["SHUTTING_DOWN", "Answering"]

SHUTTING_DOWN: Final = "Server is shutting down.\n"


class Logging(Protocol):
    """A connection: hooks get it, and the log hears of it by its logger."""

    @property
    def logger(self) -> LoggerLike:
        """Where the connection logs."""


class Answering:
    """How a server answers requests; one object serves all connections.

    Parameters:
        options: options of the server.
        registry: connections of the server.
    """

    def __init__(self, options: ServerOptions, registry: Registry[Any, Any]) -> None:
        self.options = options
        self.registry = registry

    # ------------------------------------------------------------------------------------------------------- a request

    def take_request(self, connection: Logging, session: ServerSession) -> Request | None:
        """Take the request that waits for an answer, and tell the client if there is no room for it.

        Parameters:
            connection: connection of the front-end.
            session: its session.

        Returns:
            The request; None if there is none, or if it was refused already.
        """
        request = unanswered_request(session.protocol)
        if request is None:
            return None
        session.request = request
        return None if session.over_capacity and not self._find_room(connection, session) else request

    def _find_room(self, connection: Logging, session: ServerSession) -> bool:
        """Return whether there is room by now for a connection that came when there was none; else refuse it."""
        reason = self.registry.refusal(session)
        if reason is None:
            session.over_capacity = False
            return True
        text = f"Failed to open a WebSocket connection: {reason}.\n"
        response = unavailable(session.protocol, reason, text, {"Retry-After": str(RETRY_AFTER)})
        if self.options.server_header:
            response.headers["Server"] = self.options.server_header
        self.respond(connection, session, response)
        return False

    def asks(self, session: ServerSession) -> bool:
        """Return whether somebody has a say in the answer, so that :meth:`steps` makes it.

        Parameters:
            session: session of the connection.
        """
        return self.options.asks or has_selector(session.protocol)

    def answer_at_once(self, connection: Logging, session: ServerSession, request: Request) -> bool:
        """Answer a request in which nobody has a say.

        Parameters:
            connection: connection of the front-end.
            session: its session.
            request: the request.

        Returns:
            Whether the connection is open.
        """
        protocol, name = session.protocol, self.options.server_header
        response = self.shutting_down(session) if self.registry.closing else protocol.accept(request)
        # A protocol of ours never has the header already; looking for it costs as much as all others together.
        if name and (type(protocol) is ServerProtocol or "Server" not in response.headers):
            response.headers["Server"] = name
        return self.respond(connection, session, response)

    def steps(self, connection: Logging, session: ServerSession) -> Steps[Response | None]:
        """Make the answer to a request in which hooks of the user have a say.

        Parameters:
            connection: connection of the front-end; hooks get it.
            session: its session, which has the request.

        Returns:
            The response; None if nobody is there any more to get it.
        """
        options, request = self.options, session.request
        assert request is not None
        response = yield from self.ask("process_request", options.process_request, connection, session, request)
        if response is None:
            response = yield from self._accept(connection, session, request)
        if options.server_header and "Server" not in response.headers:
            response.headers["Server"] = options.server_header
        changed = yield from self.ask(
            "process_response", options.process_response, connection, session, request, response
        )
        response = changed or response
        if self.registry.closing and response.status_code == 101:
            response = self.shutting_down(session)
        return response if session.answerable else None

    def ask(
        self,
        name: str,
        hook: Callable[..., Any] | None,
        connection: Logging,
        session: ServerSession,
        *arguments: Any,
    ) -> Steps[Response | None]:
        """Ask a hook of the user for a response; its failure is an answer too.

        Parameters:
            name: what the log calls the hook.
            hook: the hook; None if there is none.
            connection: connection of the front-end, the first argument of the hook.
            session: its session.
            *arguments: other arguments of the hook.

        Returns:
            The response; None if the hook has nothing to say.
        """
        if hook is None:
            return None
        session.asking = True
        try:
            response = yield CallHook(hook, (connection, *arguments))
            if not isinstance(response, Response | None):
                raise TypeError(f"{name} must return a Response or None, not {response!r}")
        except Exception as exc:
            return fail(session.protocol, exc, f"{name} failed", connection.logger)
        finally:
            session.asking = False
        return response

    def _accept(self, connection: Logging, session: ServerSession, request: Request) -> Steps[Response]:
        """Have the protocol answer; the user's hook chooses the subprotocol, if there is one."""
        protocol = session.protocol
        if self.registry.closing:
            return self.shutting_down(session)
        response = protocol.accept(request)
        offered = deferred_offer(protocol)
        if offered is None or response.status_code != 101:
            return response
        session.asking = True
        try:
            subprotocol = yield CallHook(self.options.select_subprotocol, (connection, offered))
        except Exception as exc:
            return decline(protocol, exc)
        finally:
            session.asking = False
        return add_subprotocol(protocol, response, subprotocol)

    def respond(self, connection: Logging, session: ServerSession, response: Response) -> bool:
        """Send a response and count it; one that can't be sent is a failure of the application.

        Parameters:
            connection: connection of the front-end.
            session: its session.
            response: the answer to the request.

        Returns:
            Whether the connection is open.
        """
        protocol = session.protocol
        try:
            protocol.send_response(response)
        except Exception as exc:
            response = fail(protocol, exc, "opening handshake failed", connection.logger)
            protocol.send_response(response)
        session.response = response
        opened = response.status_code == 101
        self.registry.count_answer(opened, protocol.handshake_exc)
        return opened

    # -------------------------------------------------------------------------------------------------------- the rest

    def shutting_down(self, session: ServerSession) -> Response:
        """Make the answer of a server that shuts down.

        Parameters:
            session: session of the connection.
        """
        return unavailable(session.protocol, "server is shutting down", SHUTTING_DOWN)

    def refuse_unless_asked(self, session: ServerSession) -> bool:
        """Refuse a client that has not sent a request, as the server shuts down; others learn it from their answer.

        Parameters:
            session: session of the connection.

        Returns:
            Whether there is something to write.
        """
        if session.handler is not HandlerState.ABSENT or not session.answerable:
            return False
        session.protocol.send_response(self.shutting_down(session))
        return True

    def handler_arguments(self, session: ServerSession) -> tuple[str, ...]:
        """Return what the connection handler gets beside the connection.

        Parameters:
            session: session of the connection.
        """
        if not self.options.takes_path:
            return ()
        assert session.request is not None
        return (session.request.path,)

    def handler_failed(self, connection: Logging, session: ServerSession, exc: Exception) -> bool:
        """Log and count an exception that ended a handler.

        Parameters:
            connection: connection of the front-end.
            session: its session.
            exc: the exception.

        Returns:
            Whether it is a failure, which the client is told by 1011; else it tells the end of this connection.
        """
        if session.ended_by(exc):
            connection.logger.info("connection handler ended: %s", session.close_exc())
            return False
        connection.logger.error("connection handler failed", exc_info=exc)
        self.registry.tally.handler_failures += 1
        return True
