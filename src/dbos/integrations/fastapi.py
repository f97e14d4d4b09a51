"""FastAPI: launch and shutdown with the application, ids from headers, errors as JSON."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dbos.api import lifetime
from dbos.errors import DBOSException
from dbos.integrations.requests import IDEMPOTENCY_HEADER, request_context
from dbos.telemetry.log import describe


def integrate(app: FastAPI) -> None:
    """Put our middleware and our error handler into an application that has not started yet.

    Raises:
        DBOSException: it has started.
    """
    present: list[object] = [middleware.cls for middleware in app.user_middleware]
    if _Middleware in present:
        return
    if app.middleware_stack is not None:
        raise DBOSException(
            "The FastAPI application has started already: construct DBOS(config=..., fastapi=app) "
            "before the server runs it."
        )
    app.add_middleware(_Middleware)
    app.add_exception_handler(DBOSException, _answer_with)


class _Middleware:
    """Stands around the application: its life, and each of its requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, _launching(receive, send), _destroying(send))
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            context = request_context(_idempotency_key(scope))
        except DBOSException as error:
            await _answer(error)(scope, receive, send)
            return
        with context:
            await self._app(scope, receive, send)


def _launching(receive: Receive, send: Send) -> Receive:
    """Launch before the application itself starts, so that its own start-up may use `DBOS`."""

    async def receive_after_launch() -> Message:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                lifetime.serve_on_running_loop()
            except Exception as error:
                # A server that is told nothing takes the failure for a missing feature.
                await send({"type": "lifespan.startup.failed", "message": describe(error)})
                raise
        return message

    return receive_after_launch


def _destroying(send: Send) -> Send:
    """Shut down after the application itself did, or could not start."""

    async def send_after_shutdown(message: Message) -> None:
        if message["type"] != "lifespan.startup.complete":
            lifetime.destroy()
        await send(message)

    return send_after_shutdown


def _idempotency_key(scope: Scope) -> str | None:
    name = IDEMPOTENCY_HEADER.encode()
    values = (value for key, value in scope["headers"] if key.lower() == name)
    found: bytes | None = next(values, None)
    return None if found is None else found.decode("latin-1")


async def _answer_with(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DBOSException), "the handler is registered for these alone"
    return _answer(error)


def _answer(error: DBOSException) -> JSONResponse:
    code = error.dbos_error_code
    body = {
        "message": str(error.message),
        "dbos_error_code": None if code is None else str(code),
        "dbos_error": type(error).__name__,
    }
    return JSONResponse(body, status_code=error.status_code or 500)
