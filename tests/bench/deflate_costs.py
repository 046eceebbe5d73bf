"""What compression costs and what it saves: the tables and the curve of docs/compression.md.

Charter: compresses messages as a connection does, without a connection. Knows :class:`PerMessageDeflate`, made-up
messages, and the clock of this process; no network. ::

    python tests/bench/deflate_costs.py [--rounds 5] [--svg docs/compression.svg]

Figures are CPU time of one process, the best of some rounds. They depend on the machine; how they compare does less.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import math
import random
import re
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from websockets.extensions.permessage_deflate import DEFAULT_BITS, DEFAULT_SETTINGS, PerMessageDeflate

LEVELS = range(1, 10)
LEVEL = DEFAULT_SETTINGS["level"]
# What others choose, as their bytes on the wire show.
ZLIB = {"level": 6, "memLevel": 8}
FAST = {"level": 1, "memLevel": 8}

# ---------------------------------------------------------------------------------------------------------- messages


def record(rand: random.Random) -> dict[str, object]:
    """A quote in a feed of prices: the keys stay, most values change."""
    day, hour, minute, second, millisecond = (rand.randrange(n) for n in (28, 24, 60, 60, 1000))
    return {
        "id": rand.randrange(10**6),
        "symbol": rand.choice(["EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "NZDUSD"]),
        "bid": round(rand.uniform(1, 2), 5),
        "ask": round(rand.uniform(1, 2), 5),
        "time": f"2026-11-{day + 1:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z",
        "venue": rand.choice(["london", "tokyo", "new york"]),
        "final": rand.random() < 0.5,
    }


def feed(size: int, count: int) -> list[bytes]:
    """JSON of about this size, in so many messages: a record, or a list of them."""
    rand = random.Random(size)
    each = len(json.dumps(record(rand))) + 2
    number = max(round(size / each), 1)
    batches = ([record(rand) for _ in range(number)] for _ in range(count))
    return [json.dumps(batch if number > 1 else batch[0]).encode() for batch in batches]


def prose() -> str:
    """English, of which every Python has some: its own reference."""
    return " ".join(" ".join(topics.values()).split())


def chat(count: int) -> list[bytes]:
    """Sentences of people, in no order."""
    sentences = [part for part in re.split(r"(?<=[.:]) ", prose()) if 15 < len(part) < 250]
    return [sentence.encode() for sentence in random.Random(0).sample(sentences, count)]


def constant(size: int, count: int) -> list[bytes]:
    """The same message again and again, which itself repeats a record: what benchmarks send."""
    words = b'{"id": 1234, "name": "alpha", "price": 99.25, "tags": ["red", "blue"]}, '
    return [(words * (size // len(words) + 1))[:size]] * count


def pieces(size: int, count: int) -> dict[str, list[bytes]]:
    """Messages of exactly this size, of both kinds."""
    rand = random.Random(size)
    text = prose()
    starts = [rand.randrange(len(text) - 2 * size) for _ in range(count)]
    records = "".join(json.dumps(record(rand)) for _ in range(count * (size // 100 + 1)))
    return {
        "JSON": [records[i * size : (i + 1) * size].encode() for i in range(count)],
        "prose": [text[start : start + size].encode("ascii", "replace") for start in starts],
    }


CORPORA = {
    "JSON, 150 B": feed(150, 600),
    "JSON, 1 KB": feed(1024, 200),
    "JSON, 32 KB": feed(2**15, 12),
    "chat, 100 B": chat(600),
    "benchmark, 1 KB": constant(2**10, 200),
    "benchmark, 32 KB": constant(2**15, 12),
}

# -------------------------------------------------------------------------------------------------------- measurement


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a message took, on average: bytes before and after, microseconds to compress and to inflate."""

    size: float
    sent: float
    compress: float
    inflate: float

    @property
    def ratio(self) -> float:
        return self.sent / self.size

    def gain(self) -> float:
        """Bytes saved for each microsecond on both sides; the same number is a bandwidth in MB/s."""
        return (self.size - self.sent) / (self.compress + self.inflate)


def extension(bits: int, settings: dict[str, Any], forget: bool = False) -> PerMessageDeflate:
    return PerMessageDeflate(forget, forget, bits, bits, settings)


def timed(function: Callable[[bytes], bytes], items: list[bytes]) -> tuple[float, list[bytes]]:
    """CPU microseconds that it takes to call a function for each item, and what it makes of them."""
    start = time.process_time_ns()
    results = list(map(function, items))
    return (time.process_time_ns() - start) / 1000, results


def measure(messages: list[bytes], rounds: int, bits: int, settings: dict[str, Any], forget: bool = False) -> Figures:
    """Compress the messages and inflate them again, several times over."""
    compress, inflate, payloads = math.inf, math.inf, [b""]
    for _ in range(rounds):
        sender, receiver = extension(bits, settings, forget), extension(bits, settings, forget)
        cost, payloads = timed(sender.compress, messages)
        compress = min(compress, cost)
        cost, contents = timed(receiver.decompress, payloads)
        inflate = min(inflate, cost)
        assert contents == messages
    count = len(messages)
    sizes = sum(map(len, messages)), sum(map(len, payloads)), compress, inflate
    return Figures(*(total / count for total in sizes))


def memory(bits: int, settings: dict[str, Any], count: int = 50) -> float:
    """KiB that a connection holds when messages passed both ways."""
    payload = PerMessageDeflate(False, False, bits, bits).compress(b"Hello" * 1000)
    extensions = [extension(bits, settings) for _ in range(count)]
    gc.collect()
    tracemalloc.start()
    for used in extensions:
        used.compress(b"Hello" * 1000)
        used.decompress(payload)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held / count / 1024


# ------------------------------------------------------------------------------------------------------------- tables


def table(title: str, head: list[str], rows: Iterable[list[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def cell(figures: Figures) -> str:
    return f"{figures.ratio:.1%}, {figures.compress:.1f}"


def levels(rounds: int, curves: dict[str, list[Figures]]) -> Iterator[list[str]]:
    for level in LEVELS:
        figures = [measure(corpus, rounds, DEFAULT_BITS, {**DEFAULT_SETTINGS, "level": level})
                   for corpus in CORPORA.values()]  # fmt: skip
        for name, point in zip(CORPORA, figures, strict=True):
            curves.setdefault(name, []).append(point)
        yield [f"**{level}**" if level == LEVEL else str(level), *map(cell, figures)]


def settings_of_others(rounds: int) -> Iterator[list[str]]:
    choices = {
        "12 bits, memLevel 5, **level 3**": (DEFAULT_BITS, DEFAULT_SETTINGS, False),
        "the same, level 6 (websockets 17.4)": (DEFAULT_BITS, {**DEFAULT_SETTINGS, "level": 6}, False),
        "15 bits, memLevel 8, level 6 (zlib, picows, tornado)": (15, ZLIB, False),
        "15 bits, memLevel 8, level 1 (aiohttp)": (15, FAST, False),
        "ours without context takeover": (DEFAULT_BITS, DEFAULT_SETTINGS, True),
    }
    for name, (bits, settings, forget) in choices.items():
        figures = [measure(corpus, rounds, bits, settings, forget) for corpus in CORPORA.values()]
        yield [name, *map(cell, figures)]


def windows(rounds: int) -> Iterator[list[str]]:
    names = ["JSON, 150 B", "JSON, 1 KB", "JSON, 32 KB", "chat, 100 B"]
    for bits, mem_level in ((9, 1), (10, 3), (11, 4), (12, 4), (12, 5), (12, 6), (13, 6), (14, 7), (15, 5), (15, 8)):
        settings = {"level": LEVEL, "memLevel": mem_level}
        figures = [measure(CORPORA[name], rounds, bits, settings) for name in names]
        mark = "**" if (bits, mem_level) == (DEFAULT_BITS, DEFAULT_SETTINGS["memLevel"]) else ""
        yield [f"{mark}{bits}, {mem_level}{mark}", f"{memory(bits, settings):.0f}", *map(cell, figures)]


def thresholds(rounds: int) -> Iterator[list[str]]:
    for size in (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024):
        row = [str(size)]
        for forget in (False, True):
            for messages in pieces(size, 300).values():
                figures = measure(messages, rounds, DEFAULT_BITS, DEFAULT_SETTINGS, forget)
                spent = figures.compress + figures.inflate
                row.append(f"{figures.size - figures.sent:.0f} B, {spent:.1f} µs: {figures.gain():.1f}")
        yield row


# --------------------------------------------------------------------------------------------------------------- plot

WIDTH, HEIGHT, LEFT, BOTTOM, MARGIN = 760, 440, 60, 50, 15
CPU_RANGE, SIZE_RANGE = (40, 180), (90, 130)
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd"]


def x(cost: float) -> float:
    low, high = CPU_RANGE
    return LEFT + (cost - low) / (high - low) * (WIDTH - LEFT - MARGIN)


def y(size: float) -> float:
    low, high = SIZE_RANGE
    return MARGIN + (high - size) / (high - low) * (HEIGHT - BOTTOM - MARGIN)


def axes() -> Iterator[str]:
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    for percent in range(SIZE_RANGE[0], SIZE_RANGE[1] + 1, 10):
        yield f'<path d="M{LEFT} {y(percent):.1f}H{WIDTH - MARGIN}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y(percent) + 4:.1f}" text-anchor="end">{percent} %</text>'
    for percent in range(CPU_RANGE[0], CPU_RANGE[1] + 1, 20):
        yield f'<path d="M{x(percent):.1f} {MARGIN}V{HEIGHT - BOTTOM}" stroke="#ddd"/>'
        yield f'<text x="{x(percent):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{percent} %</text>'
    yield f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">CPU to compress, level 6 being 100 %</text>'
    across = f'transform="translate(16 {HEIGHT / 2}) rotate(-90)"'
    yield f'<text {across} text-anchor="middle">size on the wire, level 6 being 100 %</text>'


def plot(curves: dict[str, list[Figures]]) -> str:
    """The levels of each corpus from left to right, beside level 6, as an image in SVG; ours is the large dot."""
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
             'font-family="sans-serif" font-size="12">', *axes()]  # fmt: skip
    names = [name for name in curves if not name.startswith("benchmark")]
    for row, (name, colour) in enumerate(zip(names, COLOURS, strict=True)):
        usual = curves[name][6 - 1]
        points = [(x(100 * point.compress / usual.compress), y(100 * point.sent / usual.sent))
                  for point in curves[name]]  # fmt: skip
        path = "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
        parts.append(f'<path d="M{path}" stroke="{colour}" fill="none"/>')
        for level, (px, py) in zip(LEVELS, points, strict=True):
            radius = 6 if level == LEVEL else 2.5
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{radius}" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - 120}" y="{40 + 20 * row}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what compression costs and saves.")
    parser.add_argument("--rounds", type=int, default=5, help="how often to measure each figure; the best counts")
    parser.add_argument("--svg", type=Path, help="where to draw the curve")
    options = parser.parse_args()
    rounds: int = options.rounds
    print(f"zlib {zlib.ZLIB_RUNTIME_VERSION}; cells are size on the wire, and CPU to compress in µs a message")
    curves: dict[str, list[Figures]] = {}
    table("Levels, with windows of 12 bits and memLevel 5", ["level", *CORPORA], levels(rounds, curves))
    table("Choices", ["choice", *CORPORA], settings_of_others(rounds))
    head = ["bits, memLevel", "KiB a connection", "JSON, 150 B", "JSON, 1 KB", "JSON, 32 KB", "chat, 100 B"]
    table("Windows and memory", head, windows(rounds))
    head = ["bytes", "JSON", "prose", "JSON, no context", "prose, no context"]
    table("Small messages: bytes saved, CPU on both sides, and bytes saved for each µs", head, thresholds(rounds))
    if options.svg is not None:
        options.svg.write_text(plot(curves), encoding="utf-8")


if __name__ == "__main__":
    main()
