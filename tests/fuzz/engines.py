"""The engines: what makes inputs for a target, in a process of its own.

May know: targets by their names, atheris where it is installed. Must not know: what a target checks.

``atheris`` is guided by coverage: it keeps what reaches new code of the library and changes that further. ``blind``
is not: it puts words of the target together and changes inputs of the corpus, and learns nothing from the outcome. It
is there for interpreters without atheris, and finds less.
"""

from __future__ import annotations

import importlib
import importlib.util
import random
import sys
import time
import traceback
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any

from fuzz.target import Target

__all__ = ["ENGINES", "available", "child", "find", "mutants"]

ENGINES = ("atheris", "blind")

MODULES = ("fuzz.values", "fuzz.streams", "fuzz.connections")

# Seconds for one input, and MiB for a process, above which the engine calls it a finding. The clock doesn't know if the
# machine was busy with something else.
PATIENCE, MEMORY = 300, 2048

# libFuzzer says a failure with this exit status; so does the other engine.
FOUND = 77


def available(engine: str) -> bool:
    """Whether an engine can be used here."""
    return engine == "blind" or importlib.util.find_spec("atheris") is not None


def find() -> dict[str, Target]:
    """All targets by their names."""
    found: dict[str, Target] = {}
    for module in MODULES:
        found |= {target.name: target for target in importlib.import_module(module).TARGETS}
    return found


def child(engine: str, name: str, seconds: int, seed: int, folder: Path) -> int:
    """Fuzz one target, and say how often it ran.

    Parameters:
        engine: one of :data:`ENGINES`.
        name: the target.
        seconds: for how long.
        seed: of all that is random.
        folder: where the inputs are, in ``corpus``; what was found goes beside it.
    """
    if engine == "blind":
        return run_blind(find()[name], seconds, seed, folder)
    return run_atheris(name, seconds, seed, folder)


def run_atheris(name: str, seconds: int, seed: int, folder: Path) -> int:
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["websockets"]):
        target = find()[name]
    words = folder / "words"
    escaped = ["".join(map("\\x{:02x}".format, word)) for word in target.words]
    words.write_text("".join(f'"{word}"\n' for word in escaped))
    settings = {
        "max_total_time": seconds,
        "max_len": target.limit,
        "seed": seed,
        "timeout": PATIENCE,
        "report_slow_units": PATIENCE,
        "rss_limit_mb": MEMORY,
        "print_final_stats": 1,
        "dict": words,
        "artifact_prefix": f"{folder}/found-",
    }
    options = [f"-{key}={value}" for key, value in settings.items()]
    atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], target.check)
    atheris.Fuzz()
    return 0


def run_blind(target: Target, seconds: int, seed: int, folder: Path) -> int:
    corpus = [path.read_bytes() for path in sorted((folder / "corpus").iterdir())]
    chance = random.Random(seed)
    begun = time.monotonic()
    runs = 0
    while time.monotonic() - begun < seconds:
        data = mutant(chance, target, corpus)
        runs += 1
        try:
            target.check(data)
        except Exception:
            traceback.print_exc()
            (folder / f"found-{sha1(data, usedforsecurity=False).hexdigest()}").write_bytes(data)
            print(f"stat::number_of_executed_units: {runs}", file=sys.stderr)
            return FOUND
    print(f"stat::number_of_executed_units: {runs}", file=sys.stderr)
    return 0


def mutants(target: Target, corpus: Sequence[bytes], count: int, seed: int = 0) -> list[bytes]:
    """Inputs of the engine that is blind; those of one seed are always the same."""
    chance = random.Random(seed)
    return [mutant(chance, target, corpus) for _ in range(count)]


def mutant(chance: random.Random, target: Target, corpus: Sequence[bytes]) -> bytes:
    """Another input: one of the corpus that was changed, or words put together."""
    if corpus and chance.random() < 0.7:
        data = bytearray(chance.choice(corpus))
    else:
        data = bytearray(b"".join(chance.choices(target.words, k=chance.randrange(8))))
        data[:0] = chance.randbytes(target.settings)
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        change(chance, data, target, corpus)
    return bytes(data[: target.limit])


def change(chance: random.Random, data: bytearray, target: Target, corpus: Sequence[bytes]) -> None:
    """Change something somewhere."""
    at = chance.randrange(len(data) + 1)
    kind = chance.randrange(6)
    if kind == 0:
        data[at:at] = chance.choice(target.words)
    elif kind == 1:
        del data[at : at + chance.choice((1, 1, 4, 40))]
    elif kind == 2 and at < len(data):
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 3 and at < len(data):
        data[at] = chance.choice((0, 1, 9, 10, 13, 32, 44, 126, 127, 128, 254, 255, chance.randrange(256)))
    elif kind == 4 and corpus:
        other = chance.choice(corpus)
        data[at:] = other[chance.randrange(len(other) + 1) :]
    else:
        data[at:at] = data[at : at + chance.choice((1, 2, 16))]
