"""Routes of the process itself: health, what `ocs doctor` shows, metrics, and the test clock."""

from __future__ import annotations

import asyncio
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
from litestar import Controller, MediaType, get, post
from litestar.params import JSONBody

from ocs.api.bodies import Advance
from ocs.api.common import Http, Json, runtime_of
from ocs.api.metrics import exposition
from ocs.api.peer import peer_of_scope
from ocs.api.runtime import Runtime
from ocs.charging.conductor import ChargingError
from ocs.charging.operations import OperationRefused
from ocs.charging.requests import RequestKind, Result
from ocs.config import Settings

FACTS_DEADLINE_S = 5.0
"""How long the store may take to describe itself before it counts as not answering."""


class System(Controller):
    """How the process is."""

    path = "/"
    tags = ("system",)

    @get("/health", summary="Whether the process answers")
    async def health(self, request: Http) -> Json:
        """Answers without asking the store."""
        runtime = runtime_of(request)
        return {"status": "ok", "mode": runtime.mode, "pid": os.getpid(), "version": product_version()}

    @get("/status", summary="Which worker this is and what it has done")
    async def status(self, request: Http) -> Json:
        """One line of `ocs status`; answers without asking the store. Counts are this process's own, since its start."""
        return status_of(runtime_of(request))

    @get("/workers", summary="The workers of the whole store, and who holds which peer")
    async def workers(self, request: Http) -> Json:
        """Every worker that lives, on whatever host, with its listeners, peers and catalogue versions."""
        return dict(await runtime_of(request).workers())

    @get("/doctor", summary="What is loaded, configured and wrong")
    async def doctor(self, request: Http) -> Json:
        """The facts of `ocs doctor`; `problems` is empty when all is well."""
        return await facts_of(runtime_of(request))

    @get("/metrics", media_type=MediaType.TEXT, summary="Metrics for Prometheus")
    async def metrics(self, request: Http) -> str:
        """Counters of charging and of the servers, in the text format of Prometheus."""
        return exposition(runtime_of(request))

    @get("/clock", summary="The charging clock")
    async def clock(self, request: Http) -> Json:
        """The time by which is charged, and whether it passes by itself."""
        return _clock(runtime_of(request))

    @post("/clock/advance", status_code=200, summary="Step the test clock")
    async def advance(self, request: Http, data: JSONBody[Advance]) -> Json:
        """Move time forward and handle everything that this makes due, before the answer. Only with a test clock."""
        runtime = runtime_of(request)
        peer_of_scope(request.scope)
        if not runtime.stepped:
            message = "time passes by itself; only a server started with --test-clock can be stepped"
            raise OperationRefused("conflict", "clock", message)
        runtime.advance(data.seconds)
        swept = await runtime.sweep()
        return {**_clock(runtime), "swept": swept}


def status_of(runtime: Runtime) -> Json:
    """Who this process is, where it listens, and what it has done since its start."""
    results = runtime.engine.counters.results
    requests = {kind.name.lower(): 0 for kind in RequestKind}
    for (kind, _), count in results.items():
        requests[RequestKind(kind).name.lower()] += count
    return {
        "worker": runtime.settings.worker,
        "worker_id": runtime.worker_id,
        "pid": os.getpid(),
        "version": product_version(),
        "mode": runtime.mode,
        "uptime_s": runtime.uptime_s(),
        "listeners": [dict(listener) for listener in runtime.listeners()],
        "requests": requests,
        "sessions_begun": results.get((RequestKind.INITIAL, Result.SUCCESS), 0),
        "sessions_ended": results.get((RequestKind.TERMINATION, Result.SUCCESS), 0),
        "connections": runtime.numbers().get("diameter_connections_open", 0),
        "in_flight": runtime.numbers().get("diameter_requests_in_flight", 0),
    }


def _clock(runtime: Runtime) -> Json:
    return {"now_us": runtime.now_us(), "stepped": runtime.stepped}


def product_version() -> str:
    """Version of the installed distribution; `unknown` when it runs without being installed."""
    try:
        return version("tollgate-ocs")
    except PackageNotFoundError:
        return "unknown"


async def facts_of(runtime: Runtime) -> Json:
    """Everything an operator asks first when something is wrong."""
    problems, warnings = list(runtime.problems()), list(runtime.warnings())
    store: dict[str, Any] = {}
    try:
        store = dict(await asyncio.wait_for(runtime.store_facts(), FACTS_DEADLINE_S))
    except (ChargingError, TimeoutError) as error:
        problems.append(f"the store does not answer: {error or 'no answer in time'}")
    catalogue = runtime.engine.catalogues.current
    if not catalogue.plans:
        warnings.append("no catalogue is active; `ocs catalogue activate FILE` makes one so")
    settings = runtime.settings
    return {
        "version": product_version(),
        "python": platform.python_version(),
        "worker": runtime.settings.worker,
        "worker_id": runtime.worker_id,
        "pid": os.getpid(),
        "mode": runtime.mode,
        "clock": _clock(runtime),
        "configuration": {"file": settings.file, "home": settings.home, **_sections(settings)},
        "store": store,
        "catalogue": {
            "version": catalogue.version,
            "name": catalogue.name,
            "plans": sorted(catalogue.plans),
            "warnings": [str(warning) for warning in catalogue.warnings],
        },
        "listeners": [dict(listener) for listener in runtime.listeners()],
        "numbers": dict(runtime.numbers()),
        "warnings": warnings,
        "problems": problems,
    }


def _sections(settings: Settings) -> Json:
    values: Json = msgspec.to_builtins(settings)
    values["store"]["url"] = settings.store.shown_url
    return {name: value for name, value in values.items() if name not in ("home", "file", "worker")}
