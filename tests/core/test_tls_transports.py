"""Which transport does TLS on asyncio: the choices of programs, of the environment, and by default."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from websockets._rules import tls_transports
from websockets._rules.tls_transports import choose, is_known, shown_choice


@pytest.fixture(autouse=True)
def nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_transports, "ASKED", None)


def have(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_transports, "installed", lambda: installed)


@pytest.mark.parametrize(
    ("network", "installed", "chosen"),
    [
        ("asyncio", False, "memory"),
        ("asyncio", True, "aiofastnet"),
        ("uvloop", False, "memory"),
        ("uvloop", True, "aiofastnet"),
        ("websockets", False, "memory"),
        ("websockets", True, "memory"),
        ("winloop", True, "loop"),
        ("aiofastnet", True, "loop"),
        ("a_program", True, "loop"),
    ],
)
def test_by_default(network: str, installed: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    have(installed, monkeypatch)
    assert choose(network, None) == chosen
    for option in "loop", "memory", "aiofastnet":
        assert choose(network, option) == option


@pytest.mark.parametrize(
    ("asked", "network", "chosen"),
    [
        ("loop", "asyncio", "loop"),
        ("memory", "uvloop", "memory"),
        ("aiofastnet", "asyncio", "aiofastnet"),
        ("aiofastnet", "websockets", "memory"),
        ("loop", "websockets", "loop"),
        # Something else connects there, and looks at the arguments.
        ("memory", "a_program", "loop"),
    ],
)
@pytest.mark.parametrize("installed", [False, True])
def test_as_the_environment_asks(
    asked: str, network: str, chosen: str, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(installed, monkeypatch)
    monkeypatch.setattr(tls_transports, "ASKED", asked)
    assert choose(network, None) == chosen
    assert choose(network, "loop") == "loop"


def test_packages() -> None:
    assert is_known("asyncio")
    assert not is_known("a_program")
    assert tls_transports.installed() is (importlib.util.find_spec("aiofastnet") is not None)


@pytest.mark.parametrize(
    ("installed", "shown"),
    [
        (False, "memory on its loops, memory on those of uvloop"),
        (True, "aiofastnet on its loops, aiofastnet on those of uvloop"),
    ],
)
def test_shown(installed: bool, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    have(installed, monkeypatch)
    assert shown_choice() == shown


@pytest.mark.parametrize("choice", ["", "loop", "memory", "aiofastnet"])
def test_the_environment(choice: str) -> None:
    code = "from websockets._rules import tls_transports; print(tls_transports.ASKED)"
    environment = os.environ | {"WEBSOCKETS_TLS": choice}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) == f"{choice or None}\n"
