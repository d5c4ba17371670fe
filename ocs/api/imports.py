"""Routes of bulk imports: some hundred rows in a request; `ocs import` cuts a file into them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from litestar import Controller, post
from litestar.params import JSONBody

from ocs.api.bridge import run_saga
from ocs.api.common import Http, Json, runtime_of
from ocs.api.import_bodies import BalanceRows, BalanceText, NewImport, Rows, SubscriberRows, SubscriberText
from ocs.api.peer import peer_of_scope
from ocs.charging.bulk import (
    MAX_BUNDLE,
    SERVER_BUNDLE,
    Frame,
    Refusal,
    Tally,
    import_balances,
    import_subscribers,
)
from ocs.charging.bulk_names import begin_import
from ocs.charging.bulk_rehearsal import rehearsal_of
from ocs.charging.engine import Engine
from ocs.charging.operations import OperationRefused
from ocs.charging.saga import Saga


class Imports(Controller):
    """Many rows at once."""

    path = "/import"
    tags = ("import",)

    @post("/begin", status_code=200, summary="Begin an import under a file's name")
    async def begin(self, request: Http, data: JSONBody[NewImport]) -> Json:
        """Note which file the name stands for; 409 if it was another one."""
        runtime = runtime_of(request)
        peer_of_scope(request.scope)
        digest = bytes.fromhex(data.digest)
        return await run_saga(runtime, begin_import(runtime.engine, data.key, digest, not data.dry_run))

    @post("/subscribers", status_code=200, summary="Import subscribers")
    async def subscribers(self, request: Http, data: JSONBody[SubscriberRows]) -> Json:
        """Add subscribers with their accounts. Rows fail by themselves: the answer lists those that were refused."""
        return await _import(request, data, data.rows, import_subscribers)

    @post("/balances", status_code=200, summary="Import top-ups and adjustments")
    async def balances(self, request: Http, data: JSONBody[BalanceRows]) -> Json:
        """Top up and adjust accounts. Rows fail by themselves: the answer lists those that were refused."""
        return await _import(request, data, data.rows, import_balances)


async def _import(
    request: Http,
    data: Rows,
    texts: Iterable[SubscriberText | BalanceText],
    work: Callable[[Engine, Frame, Any], Saga[Tally]],
) -> Json:
    runtime = runtime_of(request)
    bundle = SERVER_BUNDLE if runtime.mode == "server" else MAX_BUNDLE
    frame = Frame(peer_of_scope(request.scope), data.checked_reason(), bundle, stop_on_error=data.stop_on_error)
    rows: list[Any] = []
    refused: list[Refusal] = []
    for text in texts:
        try:
            rows.append(text.row())
        except OperationRefused as error:
            refused.append(Refusal(text.line, error.kind, error.field, str(error)))
            if data.stop_on_error:
                break
    engine = rehearsal_of(runtime.engine) if data.dry_run else runtime.engine
    tally = await run_saga(runtime, work(engine, frame, rows), engine)
    return {
        "applied": tally.applied,
        "repeated": tally.repeated,
        "refused": [one._asdict() for one in sorted([*refused, *tally.refused])],
        "stopped": tally.stopped or (data.stop_on_error and bool(refused)),
    }
