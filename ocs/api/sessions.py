"""Routes of sessions. A Session-Id may hold any printable character, so it travels as a query parameter."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, get
from litestar.params import FromQuery, QueryParameter

from ocs.api.bridge import run_saga
from ocs.api.common import Cursor, Http, Json, Limit, runtime_of, with_code
from ocs.api.runtime import Runtime
from ocs.charging import queries
from ocs.charging.operations import OperationRefused
from ocs.charging.pricing import CatalogueNotLoaded
from tariffs.describe import describe_tariff

SessionId = Annotated[str, QueryParameter(name="session", min_length=1, description="The Session-Id.")]


class Sessions(Controller):
    """What is under way, and why it cost what it cost."""

    path = "/"
    tags = ("sessions",)

    @get("/sessions", summary="List open sessions")
    async def list(
        self,
        request: Http,
        account: FromQuery[str | None] = None,
        peer: FromQuery[str | None] = None,
        cursor: Cursor = None,
        limit: Limit = 100,
    ) -> Json:
        """A page of open sessions: all, those of an account, or those of a peer (Origin-Host)."""
        runtime = runtime_of(request)
        if account is not None and peer is not None:
            raise OperationRefused("invalid", "peer", "expected only one of account and peer")
        return await run_saga(runtime, queries.list_sessions(runtime.engine, account, peer, cursor, limit))

    @get("/session", summary="Show a session")
    async def show(self, request: Http, session_id: SessionId) -> Json:
        """One session, open or closed not long ago."""
        runtime = runtime_of(request)
        return await run_saga(runtime, queries.show_session(runtime.engine, session_id))

    @get("/session/explain", summary="Explain a session")
    async def explain(self, request: Http, session_id: SessionId) -> Json:
        """Every event of a session, oldest first, with the tariffs that rated it under `<version>/<name>`."""
        runtime = runtime_of(request)
        found = await run_saga(runtime, queries.explain(runtime.engine, session_id))
        account = with_code(await run_saga(runtime, queries.show_account(runtime.engine, found["account"])))
        buckets = {str(bucket["bucket"]): bucket["kind"] for bucket in account["buckets"]}
        return {
            **found,
            "currency_code": account["currency_code"],
            "exponent": account["exponent"],
            "buckets": buckets,
            "tariffs": _tariffs(runtime, found),
        }


def _tariffs(runtime: Runtime, found: Json) -> Json:
    """The tariffs that the events name, as the catalogue describes them; those of a forgotten version are left out."""
    lines = [line for event in found["events"] for line in event["usage"] if line["tariff"]]
    described: Json = {}
    for version, name in {(line["catalogue_version"], line["tariff"]) for line in lines}:
        try:
            catalogue = runtime.engine.catalogues.version(version)
        except CatalogueNotLoaded:
            continue
        for tariff in catalogue.tariffs:
            if tariff.name == name:
                described[f"{version}/{name}"] = describe_tariff(tariff)
    return described
