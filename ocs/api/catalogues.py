"""Routes of the catalogue."""

from __future__ import annotations

import asyncio

from litestar import Controller, get, post
from litestar.params import JSONBody

from ocs.api.bodies import Activation, CatalogueFile
from ocs.api.common import Http, Json, order_of, runtime_of
from tariffs.describe import describe
from tariffs.loader import load


class CatalogueRoutes(Controller):
    """What is sold, at which price."""

    path = "/catalogue"
    tags = ("catalogue",)

    @get(summary="Show the current catalogue")
    async def show(self, request: Http) -> Json:
        """The catalogue that new sessions are rated under."""
        return describe(runtime_of(request).engine.catalogues.current)

    @post("/check", status_code=200, summary="Check a catalogue")
    async def check(self, data: JSONBody[CatalogueFile]) -> Json:
        """What a text would become; status 400 with every problem if it is no catalogue. Changes nothing."""
        # In a thread: a text of the greatest allowed length takes long enough to be felt by charging.
        return describe(await asyncio.to_thread(load, data.text, data.filename))

    @post("/activate", status_code=200, summary="Activate a catalogue")
    async def activate(self, request: Http, data: JSONBody[Activation]) -> Json:
        """Make a text the current version of all workers: each loads it, then all switch at the same time.

        The text that is current already changes nothing and keeps its version. Status 409 names the worker that cannot
        load it; then nothing is switched, and trying again goes on from there.
        """
        runtime, order = runtime_of(request), order_of(request, data)
        checked = await asyncio.to_thread(load, data.text, data.filename)
        before = runtime.engine.catalogues.current.version
        done = await runtime.activate_catalogue(data.text, data.filename, order.who, order.reason, order.key)
        return {
            "version": done.version,
            "current": done.current,
            "previous": before,
            "changed": done.changed,
            "key": order.key,
            "repeated": done.repeated,
            "ready": [{"worker": one.number, "host": one.host, "pid": one.pid} for one in done.ready],
            "warnings": [str(warning) for warning in checked.warnings],
        }
