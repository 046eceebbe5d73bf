"""The examples on trio and on anyio."""

from __future__ import annotations

import anyio
import pytest
import race_trio
import ticker_anyio
import trio

from websockets.testing.trio import run


def test_first_answer(capsys: pytest.CaptureFixture[str]) -> None:
    run(race_trio.main, [])
    assert capsys.readouterr().out.endswith("Hello! answered after 0.1 s\n")


def test_servers_that_fail(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            good = await race_trio.start_server(nursery, 1)
            assert (await race_trio.first_answer(["ws://127.0.0.1:9/", good], "Hi", 5))[0] == good
            with pytest.raises(trio.TooSlowError):
                await race_trio.first_answer([good], "Hi", 0.5)
            nursery.cancel_scope.cancel()

    run(main)
    assert capsys.readouterr().err.startswith("ws://127.0.0.1:9/: ")


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_prices(library: str, capsys: pytest.CaptureFixture[str]) -> None:
    anyio.run(ticker_anyio.main, 0.001, backend=library)
    lines = [[int(price) for price in line.split()] for line in capsys.readouterr().out.splitlines()]
    assert [len(line) for line in lines] == [3, 3]
    assert all(line == list(range(line[0], line[0] + 3)) for line in lines)
