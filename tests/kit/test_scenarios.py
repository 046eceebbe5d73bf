"""The adapters of scenarios: each world keeps what the contract promises, and a scenario that goes wrong says how."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from _kit import wire
from scenarios._asyncio import AsyncioWorld, run_on_asyncio
from scenarios._threads import ThreadWorld, run_in_threads, trampoline
from scenarios._world import Capability, World
from scenarios._worlds import in_every_world
from websockets.protocol import Side

SCENARIOS = Path(__file__).parents[1] / "scenarios"

Run = Callable[[Callable[[Any], Coroutine[Any, Any, None]]], None]

in_each = pytest.mark.parametrize("run", [run_on_asyncio, run_in_threads])


@in_each
def test_time_passes_only_where_it_is_waited_for(run: Run) -> None:
    async def scenario(world: World) -> None:
        start = world.now()
        sleeping = world.start(world.sleep, 100)
        await world.settle()
        assert (world.now(), sleeping.done()) == (start, False)
        await world.sleep(30)
        assert world.now() == start + 30
        await sleeping.result()
        assert world.now() == start + 100

    run(scenario)


@in_each
def test_what_was_started_tells_how_it_ended(run: Run) -> None:
    async def fail() -> None:
        raise LookupError("no")

    async def scenario(world: World) -> None:
        gate = world.gate()
        waiting, failing = world.start(gate.wait), world.start(fail)
        with pytest.raises(LookupError, match="no"):
            await failing.result()
        await world.settle()
        assert (waiting.done(), gate.is_open()) == (False, False)
        gate.open()
        await waiting.result()
        assert (waiting.done(), waiting.cancelled(), gate.is_open()) == (True, False, True)

    run(scenario)


@in_each
def test_helpers_can_be_stopped(run: Run) -> None:
    cleaned: list[str] = []

    async def scenario(world: World) -> None:
        async def tick() -> None:
            try:
                while True:
                    await world.sleep(1)
            finally:
                cleaned.append("up")

        ticking = world.start(tick)
        await world.sleep(3.5)
        await ticking.stop()
        assert (ticking.done(), ticking.cancelled(), cleaned) == (True, True, ["up"])

    run(scenario)


@in_each
def test_a_limit_of_time(run: Run) -> None:
    async def scenario(world: World) -> None:
        async with world.one_end(Side.SERVER) as (connection, peer):
            start = world.now()
            with pytest.raises(TimeoutError):
                await world.within(5, connection.recv)
            assert world.now() == start + 5
            await peer.text("message")
            assert await world.within(5, connection.recv) == "message"

    run(scenario)


@in_each
def test_fragments_come_one_by_one(run: Run) -> None:
    async def scenario(world: World) -> None:
        async with world.one_end(Side.CLIENT) as (connection, peer):
            gate = world.gate()

            async def items() -> AsyncIterator[str]:
                yield "a"
                await gate.wait()
                yield "b"

            sending = world.start(connection.send, world.source(items()))
            assert (await peer.frame()).payload == b"a"
            await world.settle()
            assert peer.unread == b""
            gate.open()
            assert [(await peer.frame()).payload for _ in range(2)] == [b"b", b""]
            await sending.result()

    run(scenario)


@in_each
def test_a_scenario_that_fails(run: Run) -> None:
    async def scenario(world: World) -> None:
        async with world.one_end(Side.SERVER) as (connection, peer):
            await connection.send("one")
            await peer.expect(wire.TEXT, b"another")

    with pytest.raises(AssertionError):
        run(scenario)


@in_each
def test_a_scenario_that_waits_for_what_never_comes(run: Run) -> None:
    async def scenario(world: World) -> None:
        await world.gate().wait()

    with pytest.raises(RuntimeError, match="^deadlock"):
        run(scenario)


def test_a_scenario_that_awaits_what_is_not_of_its_world() -> None:
    class Elsewhere:
        def __await__(self) -> Any:
            yield

    async def scenario() -> None:
        await Elsewhere()

    with pytest.raises(RuntimeError, match="may only wait for what its world has"):
        trampoline(scenario())


def test_a_world_says_why_it_lacks_something() -> None:
    assert AsyncioWorld.lacks == {}
    assert all(len(reason) > 20 for reason in ThreadWorld.lacks.values())


def test_scenarios_run_where_their_needs_are_met() -> None:
    async def scenario(world: World) -> None: ...

    scenario.__module__ = "scenarios.test_sending"

    def worlds(*needs: Capability) -> list[str]:
        (mark,) = in_every_world(*needs)(scenario).pytestmark
        return list(mark.kwargs["ids"])

    assert worlds() == ["asyncio", "threads", "trio"]
    assert worlds(Capability.CANCELLATION) == ["asyncio", "trio"]
    with pytest.raises(TypeError, match="not a coroutine function"):
        in_every_world()(lambda world: None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("test_*.py")), ids=lambda path: path.stem)
def test_scenarios_know_no_front_end(path: Path) -> None:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    roots = {".".join(name.split(".")[:2]) for name in found}
    assert roots.isdisjoint(
        {"asyncio", "threading", "trio", "websockets.asyncio", "websockets.sync", "websockets.trio"}
    )
