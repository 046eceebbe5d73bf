"""The shared drawing: late joiners, the order of strokes, what is no stroke."""

from __future__ import annotations

import json
from typing import Any

import pytest
from drawing import MAX_NUMBERS, MAX_SIZE, MAX_STROKES, Drawing, checked_stroke, drawing

from _kit import virtual
from examples.visits import hear, tell, uri
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError


def stroke(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {"color": "#d33a2c", "width": 4, "points": [number, 0, number, 9], **changes}


@virtual
async def test_late_joiner_sees_the_picture() -> None:
    async with drawing("127.0.0.1", 0) as server, connect(uri(server, "/drawing")) as first:
        assert await hear(first) == {"picture": []}
        for number in range(3):
            await tell(first, stroke(number))
            assert await hear(first) == {"stroke": stroke(number)}
        async with connect(uri(server, "/drawing")) as second:
            assert await hear(second) == {"picture": [stroke(number) for number in range(3)]}
            await tell(second, stroke(3))
            for websocket in (first, second):
                assert await hear(websocket) == {"stroke": stroke(3)}
            await tell(first, {"clear": True})
            for websocket in (first, second):
                assert await hear(websocket) == {"picture": []}
        async with connect(uri(server, "/drawing")) as third:
            assert await hear(third) == {"picture": []}


@virtual
async def test_everybody_has_the_same_order() -> None:
    async with (
        drawing("127.0.0.1", 0) as server,
        connect(uri(server, "/drawing")) as first,
        connect(uri(server, "/drawing")) as second,
    ):
        for websocket in (first, second):
            await hear(websocket)
        for number in range(0, 20, 2):
            await tell(first, stroke(number))
            await tell(second, stroke(number + 1))
        seen = [[(await hear(websocket))["stroke"] for _ in range(20)] for websocket in (first, second)]
    assert seen[0] == seen[1]
    assert sorted(each["points"][0] for each in seen[0]) == list(range(20))


NONSENSE = [
    "no JSON",
    "[]",
    "null",
    json.dumps({"clear": False}),
    json.dumps(stroke(color="url(x)")),
    json.dumps(stroke(color="#12345")),
    json.dumps(stroke(width=0)),
    json.dumps(stroke(width=41)),
    json.dumps(stroke(width="4")),
    json.dumps(stroke(points=[])),
    json.dumps(stroke(points=[1, 2])),
    json.dumps(stroke(points=[1, 2, 3])),
    json.dumps(stroke(points=[1, 2, 3, 4.5])),
    json.dumps(stroke(points=[1, 2, 3, True])),
    json.dumps(stroke(points=[1, 2, 3, 10**9])),
    json.dumps(stroke(points=[0] * (MAX_NUMBERS + 2))),
    json.dumps(stroke(points=[float("nan")] * 4)),
    json.dumps(stroke(points={})),
]


@pytest.mark.parametrize("message", NONSENSE)
@virtual
async def test_nonsense_ends_the_connection_and_nothing_else(message: str) -> None:
    async with drawing("127.0.0.1", 0) as server, connect(uri(server, "/drawing")) as first:
        async with connect(uri(server, "/drawing")) as second:
            await hear(second)
            await second.send(message)
            with pytest.raises(ConnectionClosedError):
                await second.recv()
            assert second.close_code == 1008
        await tell(first, stroke())
        assert [await hear(first) for _ in range(2)] == [{"picture": []}, {"stroke": stroke()}]


def test_stroke_has_nothing_that_does_not_belong_there() -> None:
    assert checked_stroke(stroke(more="of it")) == stroke()


def test_longest_stroke_fits_into_a_message() -> None:
    longest = stroke(points=[-1200] * MAX_NUMBERS)
    assert checked_stroke(longest) == longest
    # The page sends JSON without spaces.
    assert len(json.dumps(longest, separators=(",", ":"))) <= MAX_SIZE


def test_picture_has_a_limit() -> None:
    picture = Drawing()
    for number in range(MAX_STROKES + 1):
        picture.take(stroke(number % 1000))
    assert len(picture.strokes) == MAX_STROKES
    assert picture.strokes[0] == stroke(1)
