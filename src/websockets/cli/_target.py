"""The server to connect to, from options: headers, credentials, TLS, proxies.

May know: the meaning of options in combination, arguments of ``connect``, files and variables with secrets. Must not
know: the messages on the connection, how they are shown.
"""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import os
import re
import ssl
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from .._session.redirects import MAX_REDIRECTS
from ..asyncio.client import connect, unix_connect
from ..exceptions import SecurityError
from ..headers import build_authorization_basic
from ..uri import hide_credentials, parse_uri
from ._advice import completed_uri
from ._latency import number_of
from ._status import UsageError, check_unix

__all__ = ["Target", "credentials", "headers_of", "lines_of", "target_of", "tls_of", "visible_uri"]

# RFC 9110 sections 5.1 and 5.5.
is_header_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++").fullmatch
find_forbidden = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search

# Headers of the opening handshake, which options must not set.
RESERVED = {"connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"}


@dataclasses.dataclass(frozen=True)
class Target:
    """A server, and how to reach it.

    Parameters:
        uri: URI of the server.
        arguments: keyword arguments of :func:`~websockets.asyncio.client.connect`.
        unix: path of a Unix socket; None for TCP.
        timeout: seconds that the whole command may take; None for no limit.
        max_redirects: maximum number of redirects; None (the default) for that of ``connect``.
    """

    uri: str
    arguments: dict[str, Any]
    unix: str | None = None
    timeout: float | None = None
    max_redirects: int | None = None

    @property
    def name(self) -> str:
        """The URI without its credentials, for output."""
        return visible_uri(self.uri)

    def connect(self, **arguments: Any) -> connect:
        """Return the result of :func:`~websockets.asyncio.client.connect`, to await or to use in ``async with``."""
        arguments = {**self.arguments, **arguments}
        if self.unix is not None:
            return unix_connect(self.unix, self.uri, **arguments)
        if self.max_redirects is not None:
            return Limited(self.max_redirects, self.uri, **arguments)
        return connect(self.uri, **arguments)


class Limited(connect):
    """Follows only so many redirects.

    Parameters:
        limit: number of redirects.
        uri: URI of the server.
        **arguments: as for :func:`~websockets.asyncio.client.connect`.
    """

    def __init__(self, limit: int, uri: str, **arguments: Any) -> None:
        super().__init__(uri, **arguments)
        self._limit = self._left = limit

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the target of a redirect, or the exception to raise; ``connect`` calls this method."""
        target = super().process_redirect(exc)
        if isinstance(target, str):
            if not self._left:
                limit = number_of(self._limit, "redirect")
                return SecurityError(f"more than {limit}; the next leads to {visible_uri(target)}")
            self._left -= 1
        return target


def visible_uri(uri: str) -> str:
    """Return a URI without its credentials."""
    try:
        shown = parse_uri(uri).user_info is not None
    except Exception:
        shown = "@" in uri
    return hide_credentials(uri) if shown else uri


# ---------------------------------------------------------------------------------------------------------------- files


def lines_of(text: str) -> list[str]:
    """Return the text of an option; for ``@FILE``, the lines of the file except empty ones and comments (#).

    Raises:
        UsageError: the file can't be read.
    """
    if not text.startswith("@"):
        return [text]
    try:
        lines = Path(text[1:]).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"can't read {text[1:]}: {exc}") from exc
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def headers_of(options: Iterable[str]) -> list[tuple[str, str]]:
    """Return names and values of headers, from ``NAME: VALUE`` and ``@FILE``.

    Raises:
        UsageError: one of them isn't a header, or must not be set.
    """
    return [_header(line) for option in options for line in lines_of(option)]


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    # The error doesn't show the value, which may be a secret.
    if not colon or not is_header_name(name):
        raise UsageError("a header must look like NAME: VALUE")
    if find_forbidden(value):
        raise UsageError(f"there is a control character in the header {name}")
    if name.lower() in RESERVED:
        raise UsageError(f"the header {name} belongs to the opening handshake")
    return name, value.strip()


def credentials(option: str, environ: dict[str, str], ask: Callable[[str], str] | None) -> tuple[str, str]:
    """Return a user and a password, from ``USER:PASSWORD``, ``USER`` or ``@FILE``.

    Parameters:
        option: the option; without a password, the variable ``WEBSOCKETS_PASSWORD`` is used.
        environ: environment variables.
        ask: asks the user for a password; None if there is no terminal.

    Raises:
        UsageError: there is no password, or more than one line in the file.
    """
    lines = lines_of(option)
    if len(lines) != 1:
        raise UsageError(f"{option[1:]} must have one line, USER:PASSWORD")
    user, colon, password = lines[0].partition(":")
    if colon:
        return user, password
    if "WEBSOCKETS_PASSWORD" in environ:
        return user, environ["WEBSOCKETS_PASSWORD"]
    if ask is None:
        raise UsageError("--auth needs a password: as USER:PASSWORD, in @FILE, or in WEBSOCKETS_PASSWORD")
    return user, ask(f"Password for {user}: ")


def asker() -> Callable[[str], str] | None:
    """Return a function that asks the user for a password; None if there is no terminal."""
    return getpass.getpass if sys.stdin is not None and sys.stdin.isatty() else None


# -------------------------------------------------------------------------------------------------------------- targets


def tls_of(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the TLS context that the options ask for; None for the default of ``connect``.

    Raises:
        UsageError: a file can't be used.
    """
    if options.key and not options.cert:
        raise UsageError("--key needs --cert")
    if options.passphrase and not options.cert:
        raise UsageError("--passphrase needs --cert")
    if not (options.insecure or options.ca or options.cert):
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.cert:
            context.load_cert_chain(options.cert, options.key, passphrase_of(options))
    except OSError as exc:  # SSLError is one
        files = ", ".join(filter(None, (options.ca, options.cert, options.key)))
        # OpenSSL doesn't say in words that a passphrase is missing or wrong.
        advice = "; a locked key needs its --passphrase" if options.cert and "PEM" in str(exc) else ""
        raise UsageError(f"can't use {files}: {exc}{advice}") from exc
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def passphrase_of(options: argparse.Namespace) -> str | None:
    """Return the passphrase of the private key; None if no option gives one.

    Raises:
        UsageError: the file can't be read, or has more than one line.
    """
    if options.passphrase is None:
        return None
    lines = lines_of(options.passphrase)
    if len(lines) != 1:
        raise UsageError(f"{options.passphrase[1:]} must have one line, the passphrase")
    return lines[0]


def place_of(options: argparse.Namespace, host: str, port: int) -> dict[str, Any]:
    """Return the arguments of ``connect`` for another address than the one of the URI, if an option gives it.

    Parameters:
        options: the options; ``--resolve`` gives an address, ``--connect-to`` a host and a port.
        host: the host of the URI.
        port: the port of the URI.

    Raises:
        UsageError: no such option is for this host and this port, or options contradict each other.
    """
    if options.resolve and options.connect_to:
        raise UsageError("--resolve and --connect-to contradict each other")
    for name, given in (("--resolve", options.resolve), ("--connect-to", options.connect_to)):
        if given:
            if options.unix:
                raise UsageError(f"{name} and --unix contradict each other")
            for theirs, place in given:
                if theirs in ((host, port), ("", port), (host, None), ("", None)):
                    return {"host": place[0] or host, "port": place[1] or port}
            raise UsageError(f"{name} has no effect: it isn't for {host}:{port}")
    return {}


def check_redirects(options: argparse.Namespace) -> None:
    """Check that the number of redirects has an effect.

    Raises:
        UsageError: it hasn't.
    """
    if options.max_redirects is None:
        return
    if options.unix:
        raise UsageError("--max-redirects and --unix contradict each other")
    # The limit of connect() counts attempts.
    if options.max_redirects >= MAX_REDIRECTS:
        raise UsageError(f"--max-redirects: more than {MAX_REDIRECTS - 1} takes the variable WEBSOCKETS_MAX_REDIRECTS")


def proxy_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the argument of ``connect`` about proxies, if an option sets it.

    Raises:
        UsageError: options contradict each other.
    """
    if options.proxy and options.no_proxy:
        raise UsageError("--proxy and --no-proxy contradict each other")
    if options.unix and options.proxy:
        raise UsageError("--unix and --proxy contradict each other")
    if options.no_proxy or options.proxy:
        return {"proxy": options.proxy}
    return {}


def arguments_of(options: argparse.Namespace, secure: bool, authorization: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the arguments of ``connect`` that differ from the defaults."""
    headers = [*headers_of(options.header), *authorization]
    context = tls_of(options)
    if not secure and (options.ca or options.cert):
        raise UsageError("--ca, --cert and --key need a wss:// URI")
    arguments = {
        "additional_headers": headers or None,
        "subprotocols": options.subprotocol,
        "origin": options.origin,
        "ssl": context if secure else None,
        "open_timeout": options.timeout,
        "close_timeout": None if options.timeout is None else min(options.timeout, 10),
    }
    arguments = {name: value for name, value in arguments.items() if value is not None}
    if options.no_compression:
        arguments["compression"] = None
    return {**arguments, "max_size": options.max_size or None, **proxy_of(options)}


def target_of(options: argparse.Namespace, environ: dict[str, str], ask: Callable[[str], str] | None = None) -> Target:
    """Return the server that the options describe.

    Parameters:
        options: options from one of the parsers of :mod:`~websockets.cli._arguments`.
        environ: environment variables.
        ask: asks the user for a password; None (the default) if there is no terminal.

    Raises:
        UsageError: options contradict each other, or a file can't be used.
        InvalidURI: the URI isn't a WebSocket URI.
    """
    options.uri = completed_uri(options.uri)
    uri = parse_uri(options.uri)
    authorization = []
    if options.auth:
        if uri.user_info is not None:
            raise UsageError("there are credentials in the URI, and in --auth")
        value = build_authorization_basic(*credentials(options.auth, environ, ask))
        authorization.append(("Authorization", value))
    arguments = arguments_of(options, uri.secure, authorization)
    check_unix(options.unix)
    unix = None if options.unix is None else os.fspath(options.unix)
    arguments.update(place_of(options, uri.host, uri.port))
    check_redirects(options)
    return Target(options.uri, arguments, unix, options.timeout, options.max_redirects)
