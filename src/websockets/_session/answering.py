"""The steps that lead to the response to a request, and the response after each failure (RFC 6455 section 4.2.2).

May know: the options of a server, the user's hooks, the log lines of a connection. Must not know: how to call a hook or
wait for it, see :mod:`.hooks`; which requests are valid: the protocol decides that.

The steps are in this order. If there is no room for the connection, the server is unavailable, and no other step
follows. ``process_request`` may return a response. If it doesn't, and the server is shutting down, it is unavailable
too. Otherwise the protocol accepts or refuses it, and ``select_subprotocol`` chooses. The ``Server`` header is
added, and ``process_response`` may change or replace the response. Then it is sent, unless the client has gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from .._rules.capacity import RETRY_AFTER
from ..datastructures._shortcuts import add_lines
from ..frames import CloseCode
from ..http11 import Request, Response
from ..server import (
    HANDSHAKE_FAILED,
    ServerProtocol,
    add_subprotocol,
    deferred_offer,
    fail,
    has_selector,
    opens,
    refuse_or_fail,
    unanswered_request,
    unavailable,
    unopened_reason,
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
    """A connection, as far as its logger is concerned; it is the first argument of hooks."""

    @property
    def logger(self) -> LoggerLike:
        """The logger of the connection."""
        ...


class Answering:
    """How a server answers requests; one object serves all connections.

    Parameters:
        options: options of the server.
        registry: connections of the server.
    """

    def __init__(self, options: ServerOptions, registry: Registry[Any, Any]) -> None:
        self.options = options
        self.registry = registry
        name = options.server_header
        # An option is checked, so its line needs no check. White space around a value needs more than a line.
        self._server_line = f"Server: {name}\r\n" if name and name.strip(" \t") == name else ""

    # ------------------------------------------------------------------------------------------------------- a request

    def take_request(self, connection: Logging, session: ServerSession) -> Request | None:
        """Return the request that hasn't been answered yet; without room for it, answer that the server is unavailable.

        Parameters:
            connection: connection of the front-end.
            session: its session.

        Returns:
            The request; None if there is none, or if it was answered.
        """
        request = unanswered_request(session.protocol)
        if request is None:
            return None
        session.request = request
        return None if session.over_capacity and not self._find_room(connection, session) else request

    def _find_room(self, connection: Logging, session: ServerSession) -> bool:
        """Return whether there is now room for a connection; if not, answer that the server is unavailable."""
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
        """Return whether hooks may change the response, so that :meth:`steps` must make it.

        Parameters:
            session: session of the connection.
        """
        return self.options.asks or has_selector(session.protocol)

    def answer_at_once(self, connection: Logging, session: ServerSession, request: Request) -> bool:
        """Answer a request that no hook has to see.

        Parameters:
            connection: connection of the front-end.
            session: its session.
            request: the request.

        Returns:
            Whether the connection is open.
        """
        protocol, name = session.protocol, self.options.server_header
        response = self.unavailable(session) if self.registry.closing else protocol.accept(request)
        # Our own protocol never sets this header, and looking for it is slow.
        if type(protocol) is ServerProtocol and self._server_line:
            add_lines(response.headers, self._server_line)
        elif name and "Server" not in response.headers:
            response.headers["Server"] = name
        return self.respond(connection, session, response)

    def steps(self, connection: Logging, session: ServerSession) -> Steps[Response | None]:
        """Make the response to a request, calling the user's hooks.

        Parameters:
            connection: connection of the front-end, the first argument of hooks.
            session: its session, which has the request.

        Returns:
            The response; None if the client has gone.
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
        if self.registry.closing and opens(session.protocol, response):
            response = self.unavailable(session)
        return response if session.answerable else None

    def answer(self, connection: Logging, session: ServerSession) -> Steps[bool]:
        """Make the response to a request, as :meth:`steps` does, and send it at once.

        Parameters:
            connection: connection of the front-end, the first argument of hooks.
            session: its session, which has the request.

        Returns:
            Whether the connection is open.
        """
        response = yield from self.steps(connection, session)
        return response is not None and self.respond(connection, session, response)

    def ask(
        self,
        name: str,
        hook: Callable[..., Any] | None,
        connection: Logging,
        session: ServerSession,
        *arguments: Any,
    ) -> Steps[Response | None]:
        """Get a response from a hook of the user, or an error response if it fails.

        Parameters:
            name: name of the hook in the log.
            hook: the hook; None if there is none.
            connection: connection of the front-end, the first argument of the hook.
            session: its session.
            *arguments: other arguments of the hook.

        Returns:
            The response; None if the hook returned None.
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
        """Get the response of the protocol; the user's hook, if there is one, chooses the subprotocol."""
        protocol = session.protocol
        if self.registry.closing:
            return self.unavailable(session)
        response = protocol.accept(request)
        offered = deferred_offer(protocol)
        if offered is None or not opens(protocol, response):
            return response
        session.asking = True
        try:
            subprotocol = yield CallHook(self.options.select_subprotocol, (connection, offered))
        except Exception as exc:
            return refuse_or_fail(protocol, exc)
        finally:
            session.asking = False
        return add_subprotocol(protocol, response, subprotocol)

    def respond(self, connection: Logging, session: ServerSession, response: Response) -> bool:
        """Send a response and count it; if it can't be sent, this is a failure of the application.

        Parameters:
            connection: connection of the front-end.
            session: its session.
            response: the response to the request.

        Returns:
            Whether the connection is open.
        """
        protocol = session.protocol
        try:
            protocol.send_response(response)
        except Exception as exc:
            response = fail(protocol, exc, HANDSHAKE_FAILED, connection.logger)
            protocol.send_response(response)
        session.response = response
        opened = opens(protocol, response)
        self.registry.count_answer(None if opened else unopened_reason(protocol))
        return opened

    # -------------------------------------------------------------------------------------------------------- the rest

    def unavailable(self, session: ServerSession) -> Response:
        """Make the response of a server that is shutting down.

        Parameters:
            session: session of the connection.
        """
        return unavailable(session.protocol, "server is shutting down", SHUTTING_DOWN)

    def unavailable_unless_asked(self, session: ServerSession) -> bool:
        """Tell a client that hasn't sent a request that the server shuts down; other clients are told later.

        Parameters:
            session: session of the connection.

        Returns:
            Whether there is something to write.
        """
        if session.handler is not HandlerState.ABSENT or not session.answerable:
            return False
        session.protocol.send_response(self.unavailable(session))
        return True

    def handler_arguments(self, session: ServerSession) -> tuple[str, ...]:
        """Return the arguments of the connection handler after the connection.

        Parameters:
            session: session of the connection.
        """
        if not self.options.takes_path:
            return ()
        assert session.request is not None
        return (session.request.path,)

    def break_off(self, connection: Logging, session: ServerSession, exc: Exception, text: str) -> None:
        """Refuse the request with 500, or close the open connection with 1011, after an error before the handler.

        Parameters:
            connection: connection of the front-end.
            session: its session.
            exc: the error.
            text: text for the log.
        """
        self.registry.tally.handler_failures += 1
        if session.answerable:
            self.respond(connection, session, fail(session.protocol, exc, text, connection.logger))
        else:
            connection.logger.error(text, exc_info=exc)
            session.close(CloseCode.INTERNAL_ERROR, "")

    def handler_failed(self, connection: Logging, session: ServerSession, exc: Exception) -> bool:
        """Log and count an exception that ended a handler.

        Parameters:
            connection: connection of the front-end.
            session: its session.
            exc: the exception.

        Returns:
            True for a failure, which is reported to the client by code 1011; False if the connection has ended.
        """
        if session.ended_by(exc):
            connection.logger.info("connection handler ended: %s", session.close_exc())
            return False
        connection.logger.error("connection handler failed", exc_info=exc)
        self.registry.tally.handler_failures += 1
        return True
