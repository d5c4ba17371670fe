"""Every error leaves as `{"error": {"kind", "field", "message"}}` with a status that says whose it is.

400: the request cannot be meant. 403: not over this connection. 404: no such thing. 409: not in this state. 503: the
store or the deadline; whether the change was made is told by repeating it with its key. 500: our bug, nothing changed.
"""

from __future__ import annotations

import re
from typing import Any

from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from ocs.charging.catalogue_rollout import CatalogueBlocked
from ocs.charging.catalogue_store import CatalogueConflict
from ocs.charging.conductor import ChargingError, JobFailed
from ocs.charging.operations import OperationRefused
from tariffs.problems import CatalogueError

STATUS_OF_KIND = {"invalid": 400, "forbidden": 403, "not_found": 404, "exists": 409, "conflict": 409}

_PATH = re.compile(r" - at `\$(?:\.(?P<path>.*?))?`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>.*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>.*)`$")


def error_response(status: int, kind: str, field: str | None, message: str, **more: object) -> Response[Any]:
    """The one shape of an error."""
    content = {"error": {"kind": kind, "field": field, "message": message, **more}}
    return Response(content, status_code=status, media_type=MediaType.JSON)


def _refused(_: Request[Any, Any, Any], error: OperationRefused) -> Response[Any]:
    return error_response(STATUS_OF_KIND[error.kind], error.kind, error.field, str(error))


def _charging(_: Request[Any, Any, Any], error: ChargingError) -> Response[Any]:
    if isinstance(error, JobFailed):
        return error_response(500, "internal", None, f"{error}; nothing was changed")
    if isinstance(error, CatalogueConflict | CatalogueBlocked):
        return error_response(409, "conflict", "catalogue", str(error))
    return error_response(503, "unavailable", None, f"{error}; repeat with the same key to learn the outcome")


def _catalogue(_: Request[Any, Any, Any], error: CatalogueError) -> Response[Any]:
    problems = [
        {"file": one.file, "line": one.line, "what": one.what, "expected": one.expected} for one in error.problems
    ]
    return error_response(400, "invalid", "text", str(error), problems=problems)


def _validation(_: Request[Any, Any, Any], error: ValidationException) -> Response[Any]:
    first = error.extra[0] if isinstance(error.extra, list) and error.extra else {}
    message = str(first.get("message") or error.detail)
    field = str(first["key"]) if first.get("key") else None
    return error_response(400, "invalid", *_placed(field, message))


def _placed(field: str | None, message: str) -> tuple[str | None, str]:
    """Field and message, the field taken out of msgspec's text where Litestar did not."""
    if field == "data":
        field = None
        if message == "'data'":
            message = "expected a JSON object as the body"
    path = _PATH.search(message)
    if path:
        message = message[: path.start()]
        field = field or path["path"] or None
    unknown, missing = _UNKNOWN.match(message), _MISSING.match(message)
    named = unknown or missing
    if named is None:
        return field, message
    inside = f"{field}." if field else ""
    return inside + named["field"], "unknown field" if unknown else "missing"


def _http(_: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    kind = {404: "not_found", 405: "invalid", 413: "invalid"}.get(error.status_code, "invalid")
    if error.status_code >= 500:
        kind = "internal"
    return error_response(error.status_code, kind, None, error.detail)


def _unexpected(_: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    return error_response(500, "internal", None, f"{type(error).__name__}: {error}")


HANDLERS: ExceptionHandlersMap = {
    OperationRefused: _refused,
    ChargingError: _charging,
    CatalogueError: _catalogue,
    ValidationException: _validation,
    HTTPException: _http,
    Exception: _unexpected,
}
