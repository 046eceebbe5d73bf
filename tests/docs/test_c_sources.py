"""The C sources hold what they promise: small files and functions, system calls in one file, names that tell a home."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODEC = ROOT / "src" / "websockets" / "_codec"
SOURCES = sorted((ROOT / "src").rglob("*.c"))
HEADERS = sorted((ROOT / "src").rglob("*.h"))
FILES = [*SOURCES, *HEADERS]

LINES, COLUMNS, FUNCTION = 650, 120, 50

# The only file that may call the operating system.
DESCRIPTOR = "descriptor.c"

# What a function that other files use begins with.
PREFIXES = ("native_", "codec_", "fastpath_", "socketpath_")

# Where the C sources are named that the code belongs to.
FINGERPRINT = re.compile(r'#define FINGERPRINT "(\w+)"')
FINGERPRINTS = {"_native.h": FINGERPRINT, "__init__.py": re.compile(r'^FINGERPRINT = "(\w+)"$', re.MULTILINE)}

SYSTEM_CALL = re.compile(
    r"(?<![\w.>])(?:accept4?|bind|close|connect|dup[23]?|epoll_\w+|fcntl|getsockopt|io_uring_\w+|ioctl|listen|open|pipe2?|"
    r"poll|pread\w*|pwrite\w*|read|readv|recv|recvfrom|recvm?msg|select|send|sendfile|sendm?msg|sendto|setsockopt|shutdown|"
    r"socket|socketpair|splice|syscall|WSA\w+|write|writev)\s*\("
)
SYSTEM_HEADER = re.compile(r"#\s*include\s*<(?:sys/.*|errno|fcntl|poll|unistd|winsock2?)(?:\.h)?>")


def code_of(text: str) -> str:
    """Return C without what its comments and strings contain; the lines stay."""
    token = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(token, lambda match: "\n" * match[0].count("\n") or '""', text, flags=re.DOTALL)


def system_calls(text: str) -> list[str]:
    """Return the calls of the operating system in C, and what is included for them."""
    code = code_of(text)
    return [match[0] for pattern in (SYSTEM_CALL, SYSTEM_HEADER) for match in pattern.finditer(code)]


def functions(text: str) -> Iterator[tuple[str, bool, int]]:
    """Yield name, whether it is static, and number of lines of each function."""
    lines = code_of(text).split("\n")
    for end, line in enumerate(lines):
        if line != "}":
            continue
        brace = max(i for i in range(end) if lines[i] == "{")
        first = max(i for i in range(brace) if re.match(r"\w+\(", lines[i]))
        name = re.match(r"\w+", lines[first])
        assert name is not None
        yield name[0], lines[first - 1].startswith(("static ", "PyMODINIT_FUNC")), end - first + 2


def fingerprint(texts: Iterable[str]) -> str:
    """Return what tells C sources from others, whatever their comments and blanks are, and their own fingerprint."""
    code = "".join(re.sub(rf"/\*.*?\*/|{FINGERPRINT.pattern}|\s+", "", text, flags=re.DOTALL) for text in texts)
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def test_fingerprint() -> None:
    same = ["int a; /* one */", "int a;\n\n", "int\n    a;", '#define FINGERPRINT "12ab"\nint a;']
    assert len({fingerprint([text, "int b;"]) for text in same}) == 1
    assert len({fingerprint([text]) for text in ["int a;", "int b;", "int a = 1;", 'f("a");', 'f("b");']}) == 5


def test_fingerprint_is_that_of_the_sources() -> None:
    """So the code in Python never runs with a compiled twin of other sources: see websockets._codec."""
    current = fingerprint(path.read_text("utf-8") for path in FILES)
    for place, pattern in FINGERPRINTS.items():
        found = re.search(pattern, (CODEC / place).read_text("utf-8"))
        assert found is not None
        assert found[1] == current, f"the C sources changed: set FINGERPRINT in {place} to {current!r}; build again"


def test_what_finds_system_calls() -> None:
    calls = 'n = send (fd); object.send(1); my_send(2); /* recv( */ log("close("); writev('
    found = system_calls(f"{calls}\n#include <errno.h>")
    assert found == ["send (", "writev(", "#include <errno.h>"]


def test_what_finds_functions() -> None:
    text = "static int\none(int x)\n{\n    return x;\n}\n\nint\ntwo(int x,\n    int y)\n{\n    if (x) {\n    }\n}\n"
    assert list(functions(text)) == [("one", True, 5), ("two", False, 7)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_are_small(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= LINES
    assert [number for number, line in enumerate(lines, 1) if len(line) > COLUMNS] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_have_a_charter(path: Path) -> None:
    charter, _, _ = path.read_text().partition("*/")
    assert charter.startswith("/* ")
    assert "May know:" in charter
    assert "Must not know:" in charter


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_system_calls_are_in_one_file(path: Path) -> None:
    assert bool(system_calls(path.read_text())) == (path.name == DESCRIPTOR)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_functions_are_small_and_have_a_home(path: Path) -> None:
    found = list(functions(path.read_text()))
    assert found != []
    assert [name for name, _, lines in found if lines > FUNCTION] == []
    assert [name for name, static, _ in found if not static and not name.startswith(PREFIXES)] == []


def test_all_of_them_are_compiled_and_known() -> None:
    (module,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    assert sorted(module["sources"]) == [path.relative_to(ROOT).as_posix() for path in SOURCES]
    assert sorted(module["depends"]) == [path.relative_to(ROOT).as_posix() for path in HEADERS]


def test_names_are_unique() -> None:
    """Compilers put the notes of all of them into one folder."""
    assert len({path.name for path in SOURCES}) == len(SOURCES)
