"""A worker for gunicorn: ``gunicorn app:app --worker-class worker.Worker``. Needs ``uvicorn-worker``."""

# pyright: reportMissingImports=false

from uvicorn_worker import UvicornWorker


class Worker(UvicornWorker):  # type: ignore[misc]
    """uvicorn's worker, with the WebSockets of this library."""

    CONFIG_KWARGS = UvicornWorker.CONFIG_KWARGS | {"ws": "websockets.asgi:UvicornProtocol"}
