"""`ocs serve`: one worker process with its sockets, on uvloop, until it is told to stop.

Starting: store and engine, then the operators' socket, then the gateways'. Stopping: the gateways' first, so that what is
under way is answered and committed, the store last.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping

import structlog
import uvloop

from ocs.api.app import build_app
from ocs.api.unix_server import UnixServer
from ocs.clock import Clock, SteppedClock, SystemClock
from ocs.config import Settings
from ocs.runtime import StoreRuntime, open_runtime
from ocs.servers.diameter_server import DiameterServer
from ocs.servers.diameter_settings import gy_profiles
from ocs.servers.gy import GySettings, PeerProfile
from ocs.servers.gy_application import GyApplication
from ocs.startup import check_installation
from ocs.telemetry import configure_logging, diameter_families, diameter_numbers
from protocols.diameter.answers import Local
from protocols.diameter.avp import Message
from protocols.diameter.credit_control import InvalidRequestError
from protocols.diameter.errors import RemoteProtocolError
from protocols.diameter.events import RequestRefused

log = structlog.get_logger("ocs.serve")


def run(settings: Settings, test_clock: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; exit status 0. Raises what keeps it from starting."""
    configure_logging(settings.log.level, settings.log.form)
    check_installation()
    # At a whole second, so that the clocks of several workers can be stepped to the same time.
    clock: Clock = SteppedClock(int(time.time()) * 1_000_000) if test_clock else SystemClock()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, clock))
    return 0


async def _serve(settings: Settings, clock: Clock) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runtime = await open_runtime(settings, "server", clock, note=f"socket {settings.socket_path}")
    try:
        await _serve_runtime(settings, runtime, stop)
    finally:
        await runtime.close()


async def _serve_runtime(settings: Settings, runtime: StoreRuntime, stop: asyncio.Event) -> None:
    control = UnixServer(build_app(runtime), settings.socket_path)
    diameter = _diameter_server(settings, runtime)
    runtime.extra_numbers = lambda: diameter_numbers(diameter.node)
    runtime.extra_families = lambda: diameter_families(diameter.node, asyncio.get_running_loop().time)
    runtime.extra_listeners = lambda: [
        {"name": "control", "address": str(settings.socket_path)},
        *({"name": "diameter", "address": f"{host}:{port}"} for host, port in diameter.addresses),
    ]
    await diameter.start()
    try:
        await control.start()
        try:
            runtime.start_sweeping()
            log.info("serving", control=str(settings.socket_path), diameter=diameter.addresses)
            await stop.wait()
            log.info("stopping")
        finally:
            await diameter.stop()
            await control.stop()
    except BaseException:
        await diameter.stop()
        raise


def _diameter_server(settings: Settings, runtime: StoreRuntime) -> DiameterServer:
    local = Local(settings.node.origin_host, settings.node.origin_realm, runtime.made.made_s)
    loop = asyncio.get_running_loop()
    application = GyApplication(
        runtime.engine,
        _gy_settings(runtime, gy_profiles(settings.diameter)),
        local,
        loop.time,
        settings.diameter.deadline_s,
        lambda message, error: server.note(_refused(message, error)),
    )
    server = DiameterServer(settings.diameter, local, application.handle, product_name=settings.node.product_name)
    return server


def _gy_settings(runtime: StoreRuntime, profiles: Mapping[str, PeerProfile]) -> Callable[[], GySettings]:
    """Settings that follow the current catalogue; made anew only when it changes."""
    made: list[tuple[object, GySettings]] = []

    def current() -> GySettings:
        catalogue = runtime.engine.catalogues.current
        if not made or made[0][0] is not catalogue:
            contexts = frozenset(rule.service_context for plan in catalogue.plans.values() for rule in plan.rules)
            made[:] = [(catalogue, GySettings(service_contexts=contexts, peers=profiles))]
        return made[0][1]

    return current


def _refused(message: Message, error: RemoteProtocolError) -> RequestRefused:
    """What the node would have said: so the log has one line for all refusals, and not more of them than it can bear."""
    errors = error.errors if isinstance(error, InvalidRequestError) else ()
    return RequestRefused(message, error.result_code, error.detail, errors)
