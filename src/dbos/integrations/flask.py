"""Flask: a DBOS context for each request, and ids from headers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask, Request

from dbos.errors import DBOSException
from dbos.integrations.requests import IDEMPOTENCY_HEADER, request_context

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def integrate(app: Flask) -> None:
    """Put our middleware around an application."""
    app.wsgi_app = _Middleware(app, app.wsgi_app)  # type: ignore[method-assign]


class _Middleware:
    """Stands around each request."""

    def __init__(self, app: Flask, inner: WSGIApplication) -> None:
        self._app = app
        self._inner = inner

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        key = Request(environ).headers.get(IDEMPOTENCY_HEADER)
        try:
            context = request_context(key)
        except DBOSException as error:
            with self._app.request_context(environ):
                return self._app.handle_exception(error)(environ, start_response)
        with context:
            return self._inner(environ, start_response)
