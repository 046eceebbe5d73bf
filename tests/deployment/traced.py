"""Runs the example of tracing, server and client in one process, and prints its spans as JSON.

Charter: a program that a test starts where the SDK of OpenTelemetry is installed; its arguments are the paths of the
example's server and client, and what to try.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import asyncio
import json
import runpy
import sys
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve


def described(span: Any) -> dict[str, Any]:
    """What the test looks at."""
    return {
        "name": span.name,
        "kind": span.kind.name,
        "trace": span.context.trace_id,
        "id": span.context.span_id,
        "parent": span.parent and span.parent.span_id,
        "links": [link.context.span_id for link in span.links],
        "status": span.status.status_code.name,
        "attributes": dict(span.attributes),
    }


async def main(server: str, client: str, headers: list[tuple[str, str]]) -> None:
    """One conversation with the example's client, and one with a client that ends it with an error."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    async with serve(runpy.run_path(server)["echo"], "127.0.0.1", 0) as serving:
        (listening,) = serving.sockets
        uri = f"ws://127.0.0.1:{listening.getsockname()[1]}"
        await runpy.run_path(client)["main"](uri)
        async with connect(uri, additional_headers=headers) as connection:
            await connection.close(4000, "no more")
    print(json.dumps([described(span) for span in exporter.get_finished_spans()]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
