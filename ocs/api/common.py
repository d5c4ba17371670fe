"""What the routes share."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request
from litestar.datastructures import State
from litestar.params import QueryParameter

from balance.store import MAX_PAGE
from ocs.api.bodies import Change
from ocs.api.peer import peer_of_scope
from ocs.api.runtime import Runtime
from ocs.charging.identity_text import KINDS, normalise
from ocs.charging.operations import OperationRefused, Order
from ocs.charging.requests import Identity
from tariffs.currencies import CURRENCIES
from tariffs.model import Currency

Http = Request[Any, Any, State]
Json = dict[str, Any]

Cursor = Annotated[str | None, QueryParameter(description="`next` of the page before; absent: the first page.")]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="Items of a page at most.")]

_CODES = {currency.numeric: currency.code for currency in CURRENCIES.values()}


def runtime_of(request: Http) -> Runtime:
    """The process behind the application."""
    runtime: Runtime = request.app.state.runtime
    return runtime


def order_of(request: Http, change: Change) -> Order:
    """The order of a change, signed with the name of the user at the other end."""
    return change.order(peer_of_scope(request.scope))


def find_currency(code: str) -> Currency:
    """A currency by its code; refused if there is none."""
    found = CURRENCIES.get(code.upper())
    if found is None:
        message = f"{code!r} is no currency, expected a code of ISO 4217 such as EUR"
        raise OperationRefused("invalid", "currency", message)
    return found


def path_name(field: str, name: str) -> str:
    """A new name that can also be a segment of a path; refused otherwise."""
    if "/" in name or name in (".", ".."):
        raise OperationRefused("invalid", field, f"{name!r} is no {field} id: expected a name without a slash")
    return name


def with_code(account: Json) -> Json:
    """An account with its currency's code beside the number."""
    return {**account, "currency_code": _CODES.get(account["currency"], str(account["currency"]))}


def read_identity(kind: str, value: str) -> Identity:
    """An identity in its one spelling; refused if it cannot be one."""
    if kind not in KINDS:
        raise OperationRefused("invalid", "identity", f"unknown kind {kind!r}, expected one of {', '.join(KINDS)}")
    identity = normalise(kind, value)
    if identity is None or not identity.value.isprintable() or any(c.isspace() for c in identity.value):
        expected = "up to 20 digits" if kind in ("e164", "imsi") else "a text without blanks"
        raise OperationRefused("invalid", "identity", f"{value!r} is no {kind}, expected {expected}")
    return identity
