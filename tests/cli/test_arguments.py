"""What may be said on the command line, and what its help says."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from websockets import cli
from websockets.cli import _arguments
from websockets.cli._arguments import bench_parser, client_parser, place, serve_parser


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (_arguments.positive, "0.5", 0.5),
        (_arguments.not_negative, "0", 0),
        (_arguments.not_negative, "inf", math.inf),
        (_arguments.counted, "3", 3),
        (_arguments.size, "0", 0),
        (_arguments.size, "64", 64),
        (_arguments.size, "2k", 2048),
        (_arguments.size, "1M", 2**20),
        (_arguments.size, "1G", 2**30),
        (_arguments.hexadecimal, "00 fF", b"\x00\xff"),
        (_arguments.number, "0", 0),
        (_arguments.resolved, "host:80:192.0.2.1", (("host", 80), ("192.0.2.1", None))),
        (_arguments.resolved, "[::1]:80:[2001:db8::1]", (("::1", 80), ("2001:db8::1", None))),
        (_arguments.resolved, "host:80:::1", (("host", 80), ("::1", None))),
        (_arguments.diverted, "host:80:other:81", (("host", 80), ("other", 81))),
        (_arguments.diverted, "::other:", (("", None), ("other", None))),
        (_arguments.diverted, "[::1]:1::2", (("::1", 1), ("", 2))),
        (place, "80", ("localhost", 80)),
        (place, ":80", (None, 80)),
        (place, "host:0", ("host", 0)),
        (place, "[::1]:80", ("::1", 80)),
    ],
)
def test_values(read: Callable[[str], Any], text: str, value: Any) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *[(_arguments.positive, text) for text in ("0", "-1", "inf", "nan", "x", "")],
        *[(_arguments.not_negative, text) for text in ("-1", "nan", "x")],
        *[(_arguments.counted, text) for text in ("0", "-1", "1.5", "x")],
        *[(_arguments.size, text) for text in ("-1", "M", "1T", "")],
        *[(_arguments.number, text) for text in ("-1", "x")],
        *[(_arguments.resolved, text) for text in ("", "host:80", "host:80:", ":80:x", "host::x", "host:80x")],
        *[(_arguments.diverted, text) for text in ("", "a:1", "a:1:b", "a:1:b:2:3", "a:1b:2", "a:1:b:x")],
        *[(_arguments.hexadecimal, text) for text in ("0", "xx")],
        *[(place, text) for text in ("", "host", "host:", "host:65536", "host:-1", "::1:80", "host:٣")],
    ],
)
def test_values_that_are_refused(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises((ValueError, argparse.ArgumentTypeError)):
        read(text)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--timeout", "x"),
        ("--expect", "x"),
        ("--max-size", "x"),
        ("--wait", "x"),
        ("--send-hex", "x"),
        ("--format", "x"),
    ],
)
def test_refusals_name_the_option(option: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="^2$"):
        client_parser().parse_args([option, text, "ws://host"])
    assert f"argument {option}: invalid" in capsys.readouterr().err


def test_messages_stay_in_order() -> None:
    options = client_parser().parse_args(
        ["--send", "a", "--send-hex", "00", "--send-file", "f", "--send", "b", "ws://x"]
    )
    assert options.messages == [("send", "a"), ("send-hex", b"\x00"), ("send-file", "f"), ("send", "b")]


# ----------------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("width", [80, 100])
def test_help_fits_a_screen(width: int) -> None:
    lines = client_parser(width=width).format_help().splitlines()
    assert len(lines) < 24  # leaves a line for the next prompt
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("build", [lambda: client_parser(True, 80), lambda: serve_parser(80), lambda: bench_parser(80)])
def test_help_fits_a_terminal(build: Callable[[], argparse.ArgumentParser]) -> None:
    lines = build().format_help().splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 70


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions for name in action.option_strings}


def test_both_pages_know_the_same_options() -> None:
    assert options_of(client_parser()) == options_of(client_parser(everything=True))
    shown = client_parser(everything=True, width=80).format_help()
    assert not [
        option for option in options_of(client_parser()) if f"  {option}" not in shown and f", {option}" not in shown
    ]


@pytest.mark.parametrize("build", [client_parser, serve_parser, bench_parser])
def test_the_documentation_tells_of_every_option(build: Callable[[], argparse.ArgumentParser]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "command.md").read_text("utf-8")
    for option in options_of(build()) - {"-h", "--help"}:
        assert re.search(rf"`(?:websockets\s)?{option}[` ]", page), option


def test_help_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, client_parser(True).format_help().splitlines()[8:-2])) <= 60
    monkeypatch.setenv("COLUMNS", "300")
    assert max(map(len, serve_parser().format_help().splitlines())) <= 100


def test_ctrl_c_before_there_is_anything_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert ended.value.code == 130
