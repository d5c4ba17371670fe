"""The HTTP interface: one ASGI application for the command line, a console and scripts.

It is served on a unix socket by the process that charges (`ocs.api.unix_server`), or called in process by a command
that opened the store itself: the same routes, the same answers. The OpenAPI document is at `/schema`.
"""

from __future__ import annotations

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin

from ocs.api.accounts import Accounts
from ocs.api.catalogues import CatalogueRoutes
from ocs.api.errors import HANDLERS
from ocs.api.imports import Imports
from ocs.api.runtime import Runtime
from ocs.api.sessions import Sessions
from ocs.api.strict import StrictRequest
from ocs.api.subscribers import Subscribers
from ocs.api.system import System, product_version

MAX_BODY_OCTETS = 20 * 1024 * 1024
"""Longest body of a request: a catalogue of the greatest length, written with escapes."""


def build_app(runtime: Runtime) -> Litestar:
    """The application over one runtime; it neither starts nor stops it."""
    version_1 = Router("/v1", route_handlers=[Accounts, Subscribers, Sessions, CatalogueRoutes, Imports, System])
    return Litestar(
        route_handlers=[version_1],
        state=State({"runtime": runtime}),
        request_class=StrictRequest,
        exception_handlers=HANDLERS,
        request_max_body_size=MAX_BODY_OCTETS,
        openapi_config=OpenAPIConfig(
            title="tollgate-ocs",
            version=product_version(),
            path="/schema",
            render_plugins=[JsonRenderPlugin(), SwaggerRenderPlugin()],
        ),
        debug=False,
        # Logging belongs to the process: by default Litestar would take over the root logger.
        logging_config=None,
    )
