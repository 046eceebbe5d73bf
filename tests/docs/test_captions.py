"""Blocks of code in the site have captions: the names of their files."""

from __future__ import annotations

import re

import pytest

from _blocks.pages import pages
from _ext.captions import add_captions

SERVER = "with serve(handler) as server:\n    server.serve_forever()\n"
CLIENT = "asyncio.run(main(connect('ws://localhost')))\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"```python\n{SERVER}```\n", "server.py"),
        (f"```python\n{CLIENT}```\n", "client.py"),
        (f"<!-- name: x -->\n```python\n{SERVER}```\n", "server.py"),
        (f"```python\n{SERVER}{CLIENT}```\n", None),
        (f"```python\nserve_in_memory(x)\n{CLIENT}```\n", None),
        ("```python\nserve(handler)\n```\n", None),
        (f"```text\n{CLIENT}```\n", None),
        (f"<!-- continues -->\n```python\n{CLIENT}```\n", None),
        (f"<!-- caption: x.py; run by: y -->\n```python\n{CLIENT}```\n", "x.py"),
        ("<!-- file: examples/caddy/Caddyfile -->\n```text\n{\n```\n", "Caddyfile"),
        ("Save this as `server.py`:\n\n```text\nx\n```\n", "server.py"),
        ("Save\nthis as `a.py`, please:\n\n<!-- name: x -->\n```python\nx\n```\n", "a.py"),
        ("Save this as `a.py`:\n\nAnd then:\n\n```python\nx\n```\n", None),
        ("<!-- not run: needs Windows -->\n```python\nx\n```\n", "(no test runs this: needs Windows)"),
        ("- Item:\n  ````python\n  with serve(x):\n  ```\n  ````\n", None),
    ],
)
def test_captions(text: str, name: str | None) -> None:
    assert re.findall(r":caption: (.*)\n\n", add_captions(text)) == ([] if name is None else [name])
    assert name is not None or add_captions(text) == text


def test_a_block_stays_as_it_is() -> None:
    text = f"Before.\n\n<!-- name: x -->\n```python\n{SERVER}```\n\nAfter.\n"
    wanted = f"Before.\n\n```{{code-block}} python\n:caption: server.py\n\n{SERVER}```\n\nAfter.\n"
    assert add_captions(text) == wanted
    item = "1. Item\n\n   <!-- file: a/b.sh -->\n   ```sh\n   x\n   ```\n"
    assert add_captions(item) == "1. Item\n\n   ```{code-block} sh\n   :caption: b.sh\n\n   x\n   ```\n"


def test_pages_have_captions() -> None:
    """Each block that is a file, or that one shall save."""
    count = 0
    for page in pages():
        captions = re.findall(r"^ *:caption: (\S+)$", add_captions(page.text), re.MULTILINE)
        files = [block.says["file"].rpartition("/")[2] for block in page.blocks if "file" in block.says]
        assert not set(files) - set(captions)
        count += len(captions)
    assert count > 120
