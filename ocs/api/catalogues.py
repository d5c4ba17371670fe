"""Routes of the catalogue."""

from __future__ import annotations

import asyncio

from litestar import Controller, get, post
from litestar.params import JSONBody

from ocs.api.bodies import Activation, CatalogueFile
from ocs.api.common import Http, Json, runtime_of
from ocs.api.peer import peer_of_scope
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
        """Make a text the current version. The text that is current already changes nothing and keeps its version."""
        runtime, who, reason = runtime_of(request), peer_of_scope(request.scope), data.checked_reason()
        checked = await asyncio.to_thread(load, data.text, data.filename)
        before = runtime.engine.catalogues.current.version
        version = await runtime.activate_catalogue(data.text, data.filename, who, reason)
        warnings = [str(warning) for warning in checked.warnings]
        return {"version": version, "previous": before, "changed": version != before, "warnings": warnings}
