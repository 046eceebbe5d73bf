"""From options to the arguments of connect(): headers, credentials, TLS, the way to the server."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from _kit.platforms import needs_unix_sockets
from websockets.cli._arguments import client_parser
from websockets.cli._status import UsageError, of_close
from websockets.cli._target import Target, credentials, headers_of, lines_of, target_of, tls_of, visible_uri
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.headers import build_authorization_basic
from websockets.http11 import Response

# A certificate for localhost, and its key.
PEM = str(Path(__file__).with_name("localhost.pem"))
# The same key, behind a passphrase.
LOCKED = str(Path(__file__).with_name("locked.pem"))

# What connect() is called with when nothing is asked for.
DEFAULT: dict[str, Any] = {"max_size": 2**20}


def target(*arguments: str, environ: dict[str, str] | None = None) -> Target:
    options = client_parser().parse_args(arguments)
    return target_of(options, environ or {})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {}),
        (["-H", "X-One: 1", "--header", "X-Two:2"], {"additional_headers": [("X-One", "1"), ("X-Two", "2")]}),
        (["-s", "chat", "-s", "superchat"], {"subprotocols": ["chat", "superchat"]}),
        (["-o", "https://site"], {"origin": "https://site"}),
        (["--no-compression"], {"compression": None}),
        (["--max-size", "2M"], {"max_size": 2**21}),
        (["--max-size", "0"], {"max_size": None}),
        (["--proxy", "http://proxy:1"], {"proxy": "http://proxy:1"}),
        (["--no-proxy"], {"proxy": None}),
        (["--timeout", "3"], {"open_timeout": 3, "close_timeout": 3}),
        (["--timeout", "30"], {"open_timeout": 30, "close_timeout": 10}),
        (["--insecure"], {}),
        (
            ["--auth", "me:pass:word"],
            {"additional_headers": [("Authorization", build_authorization_basic("me", "pass:word"))]},
        ),
    ],
)
def test_arguments_of_connect(arguments: list[str], expected: dict[str, Any]) -> None:
    found = target(*arguments, "ws://host/")
    assert found.arguments == {**DEFAULT, **expected}
    assert (found.uri, found.unix) == ("ws://host/", None)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--proxy", "http://p", "--no-proxy"], "--proxy and --no-proxy contradict each other"),
        (["--proxy", "http://p", "--unix", "/s"], "--unix and --proxy contradict each other"),
        (["--key", "k"], "--key needs --cert"),
        (["--auth", "a:b", "ws://u:p@host/"], "there are credentials in the URI, and in --auth"),
        (["--auth", "me"], "--auth needs a password"),
        (["-H", "nothing"], "a header must look like NAME: VALUE"),
        (["--ca", "/does/not/exist", "wss://host/"], "can't use /does/not/exist: "),
        (["--cert", "/does/not/exist", "wss://host/"], "can't use /does/not/exist: "),
    ],
)
def test_what_makes_no_sense(arguments: list[str], text: str) -> None:
    uri = [] if "://" in arguments[-1] and "host" in arguments[-1] else ["ws://host/"]
    with pytest.raises(UsageError, match=f"^{text}"):
        target(*arguments, *uri)


def test_uri_that_is_none() -> None:
    with pytest.raises(InvalidURI):
        target("http://host/")


@pytest.mark.parametrize("option", ["--ca", "--cert"])
def test_certificates_need_tls(option: str) -> None:
    with pytest.raises(UsageError, match="^--ca, --cert and --key need a wss:// URI$"):
        target(option, PEM, "ws://host/")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--resolve", "host:80:192.0.2.1"], {"host": "192.0.2.1", "port": 80}),
        (["--resolve", "other:80:::1", "--resolve", "host:80:::2"], {"host": "::2", "port": 80}),
        (["--connect-to", "host:80:other:81"], {"host": "other", "port": 81}),
        (["--connect-to", "host::other:"], {"host": "other", "port": 80}),
        (["--connect-to", ":80::81"], {"host": "host", "port": 81}),
        (["--connect-to", "::other:"], {"host": "other", "port": 80}),
    ],
)
def test_another_place(arguments: list[str], expected: dict[str, Any]) -> None:
    assert target(*arguments, "ws://host").arguments == DEFAULT | expected


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--resolve", "host:81:::1"], "--resolve has no effect: it isn't for host:80"),
        (["--connect-to", "other:80::1"], "--connect-to has no effect: it isn't for host:80"),
        (["--resolve", "host:80:::1", "--connect-to", "::x:"], "--resolve and --connect-to contradict each other"),
        pytest.param(
            ["--unix", "x", "--connect-to", "::x:"],
            "--connect-to and --unix contradict each other",
            marks=needs_unix_sockets,
        ),
        (["--passphrase", "x"], "--passphrase needs --cert"),
    ],
)
def test_another_place_that_makes_no_sense(arguments: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=f"^{text}$"):
        target(*arguments, "ws://host")


def test_redirects_are_limited() -> None:
    moved = InvalidStatus(Response(302, "Found", Headers(Location="/next"), b""))
    connecting = target("--max-redirects", "1", "ws://host").connect()
    assert connecting.process_redirect(OSError("down")).args == ("down",)  # type: ignore[union-attr]
    assert connecting.process_redirect(moved) == "ws://host/next"
    assert str(connecting.process_redirect(moved)) == "more than 1 redirect; the next leads to ws://host/next"
    assert target("ws://host").connect().process_redirect(moved) == "ws://host/next"
    text = "--max-redirects: more than 9 takes the variable WEBSOCKETS_MAX_REDIRECTS"
    with pytest.raises(UsageError, match=f"^{text}$"):
        target("--max-redirects", "10", "ws://host")


@needs_unix_sockets
def test_unix_sockets_redirect_nowhere() -> None:
    with pytest.raises(UsageError, match="^--max-redirects and --unix contradict each other$"):
        target("--max-redirects", "1", "--unix", "x", "ws://host")


def test_unix_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "AF_UNIX", 1, raising=False)
    found = target("--unix", "/run/socket", "ws://host/path")
    assert (found.unix, found.uri) == ("/run/socket", "ws://host/path")
    connecting = found.connect(open_timeout=1)
    assert (connecting.uri, connecting.open_timeout) == ("ws://host/path", 1)
    assert connecting.create_connection_kwargs == {"path": "/run/socket", "unix": True}


def test_unix_sockets_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    with pytest.raises(UsageError, match="^--unix needs Unix sockets, which Python doesn't have on this system$"):
        target("--unix", "/run/socket", "ws://host/path")


def test_tcp() -> None:
    connecting = target("-H", "A: b", "ws://host/").connect(max_queue=None)
    assert connecting.additional_headers == [("A", "b")]
    assert connecting.create_connection_kwargs == {}


# ------------------------------------------------------------------------------------------------------- URIs, statuses


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("ws://host/", "ws://host/"),
        ("ws://host/@me", "ws://host/@me"),
        ("ws://me:secret@host/", "ws://***@host/"),
        ("http://me:secret@host/", "http://***@host/"),
        ("nonsense", "nonsense"),
    ],
)
def test_credentials_in_uris_are_not_shown(uri: str, shown: str) -> None:
    assert visible_uri(uri) == shown
    assert Target(uri, {}).name == shown


@pytest.mark.parametrize(
    ("code", "status"), [(1000, 0), (1001, 0), (1005, 0), (1006, 3), (1011, 3), (4000, 3), (None, 3)]
)
def test_statuses_of_close_codes(code: int | None, status: int) -> None:
    assert of_close(code) == status


# -------------------------------------------------------------------------------------------------------------- headers


def test_headers_in_files(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("# secret\nX-Token: s3cr3t\n\n  X-Other:  more  \n", "utf-8")
    assert headers_of(["A:1", f"@{file}", "B:"]) == [("A", "1"), ("X-Token", "s3cr3t"), ("X-Other", "more"), ("B", "")]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("secret", "a header must look like NAME: VALUE"),
        (": secret", "a header must look like NAME: VALUE"),
        ("A b: secret", "a header must look like NAME: VALUE"),
        ("A: sec\nret", "there is a control character in the header A"),
        ("A: sec\x00ret", "there is a control character in the header A"),
        ("Sec-WebSocket-Key: x", "the header Sec-WebSocket-Key belongs to the opening handshake"),
        ("@/does/not/exist", "can't read /does/not/exist: "),
    ],
)
def test_headers_that_are_refused(line: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"^{text}") as raised:
        headers_of([line])
    assert "secret" not in str(raised.value)


def test_files_that_are_not_text(tmp_path: Path) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="^can't read "):
        lines_of(f"@{file}")


# ---------------------------------------------------------------------------------------------------------- credentials


def ask(prompt: str) -> str:
    assert prompt == "Password for me: "
    return "typed"


@pytest.mark.parametrize(
    ("option", "environ", "password"),
    [
        ("me:given", {"WEBSOCKETS_PASSWORD": "variable"}, "given"),
        ("me:", {"WEBSOCKETS_PASSWORD": "variable"}, ""),
        ("me", {"WEBSOCKETS_PASSWORD": "variable"}, "variable"),
        ("me", {}, "typed"),
    ],
)
def test_passwords(option: str, environ: dict[str, str], password: str) -> None:
    assert credentials(option, environ, ask) == ("me", password)


def test_credentials_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("me:from:file\n", "utf-8")
    assert credentials(f"@{file}", {}, None) == ("me", "from:file")
    file.write_text("me:one\nyou:two\n", "utf-8")
    with pytest.raises(UsageError, match="must have one line"):
        credentials(f"@{file}", {}, None)


# ------------------------------------------------------------------------------------------------------------------ TLS


def context(*arguments: str) -> ssl.SSLContext | None:
    return tls_of(client_parser().parse_args([*arguments, "wss://host/"]))


def test_tls_as_usual() -> None:
    assert context() is None


def test_tls_with_one_authority() -> None:
    found = context("--ca", PEM)
    assert found is not None
    assert (found.verify_mode, found.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert [each["subject"] for each in found.get_ca_certs()] == [((("commonName", "localhost"),),)]


def test_tls_with_a_certificate_of_the_client() -> None:
    assert target("--cert", PEM, "--key", PEM, "wss://host/").arguments["ssl"].verify_mode == ssl.CERT_REQUIRED
    with pytest.raises(UsageError, match=f"^can't use {PEM}, {__file__}: "):
        target("--cert", PEM, "--key", __file__, "wss://host/")


def test_key_with_a_passphrase(tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text("secret words\n")
    for given in ("secret words", f"@{words}"):
        assert context("--cert", PEM, "--key", LOCKED, "--passphrase", given) is not None
    with pytest.raises(UsageError, match="^can't use "):
        context("--cert", PEM, "--key", LOCKED, "--passphrase", "wrong")
    words.write_text("two\nlines\n")
    with pytest.raises(UsageError, match="must have one line, the passphrase$"):
        context("--cert", PEM, "--key", LOCKED, "--passphrase", f"@{words}")


def test_tls_without_verification() -> None:
    found = context("-k")
    assert found is not None
    assert (found.verify_mode, found.check_hostname) == (ssl.CERT_NONE, False)
    assert target("--insecure", "wss://host/").arguments["ssl"].verify_mode == ssl.CERT_NONE
