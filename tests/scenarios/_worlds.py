"""The list of worlds, and the function that runs a scenario in each of them.

May know: the adapters. Must not know: any scenario, or the topics for which :data:`WORLDS` are used.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest

from _kit.brief import BRIEF
from websockets.protocol import Side

from ._asyncio import AsyncioWorld, run_on_asyncio
from ._threads import ThreadWorld, run_in_threads
from ._trio import TrioWorld, run_on_trio
from ._world import Capability, World

__all__ = ["both_sides", "in_every_world"]


class Front(NamedTuple):
    """A world, and which scenarios it is for.

    Attributes:
        name: in the names of tests.
        world: its class.
        run: runs a scenario in it.
        topics: the files of the scenarios; None for all.
    """

    name: str
    world: Any
    run: Callable[[Callable[[Any], Coroutine[Any, Any, None]]], None]
    topics: frozenset[str] | None = None


#: A front-end that comes adds its line, for all topics.
WORLDS = (
    Front("asyncio", AsyncioWorld, run_on_asyncio),
    Front("threads", ThreadWorld, run_in_threads),
    Front("trio", TrioWorld, run_on_trio),
)

both_sides = pytest.mark.parametrize("side", [Side.SERVER, Side.CLIENT])


def _fronts(module: str, needs: frozenset[Capability]) -> list[Front]:
    """The worlds of a scenario."""
    folder, _, topic = module.rpartition(".")
    worlds = WORLDS[:1] if BRIEF and folder.endswith("robustness") else WORLDS
    return [
        front
        for front in worlds
        if (front.topics is None or topic in front.topics) and needs.isdisjoint(front.world.lacks)
    ]


def in_every_world(*needs: Capability) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Any]:
    """Make a test of a scenario: it runs in every world that has what it needs.

    Parameters:
        needs: the capabilities.
    """

    def decorate(scenario: Callable[..., Coroutine[Any, Any, None]]) -> Any:
        if not inspect.iscoroutinefunction(scenario):
            raise TypeError(f"{scenario!r} is not a coroutine function")
        fronts = _fronts(scenario.__module__, frozenset(needs))

        @pytest.mark.parametrize("world", fronts, ids=[front.name for front in fronts])
        @functools.wraps(scenario)
        def test(world: Front, **parameters: Any) -> None:
            def play(in_it: World) -> Coroutine[Any, Any, None]:
                return scenario(in_it, **parameters)

            world.run(play)

        return test

    return decorate
