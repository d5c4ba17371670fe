"""`ocs serve`: one worker process with its sockets, on uvloop, until it is told to stop.

Starting: store and engine, then the gateways' sockets, then the operators'. Stopping: the gateways' first, so that what is
under way is answered and committed, the store last. One of several workers does the same under its supervisor's orders.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

import structlog
import uvloop

from ocs.api.app import build_app
from ocs.api.unix_client import get_json
from ocs.api.unix_server import UnixServer
from ocs.clock import Clock, SteppedClock, SystemClock
from ocs.config import Settings
from ocs.runtime import StoreRuntime, open_runtime
from ocs.servers.diameter_server import DiameterServer
from ocs.servers.diameter_settings import gy_profiles
from ocs.servers.gy import GySettings, PeerProfile
from ocs.servers.gy_application import GyApplication
from ocs.startup import check_installation
from ocs.supervised import (
    Orders,
    die_with_supervisor,
    drain_limit_s,
    end_within,
    say_ready,
    tell_service_manager,
)
from ocs.telemetry import configure_logging, diameter_families, diameter_numbers
from protocols.diameter.answers import Local
from protocols.diameter.avp import Message
from protocols.diameter.credit_control import InvalidRequestError
from protocols.diameter.errors import RemoteProtocolError
from protocols.diameter.events import Event, PeerClosed, PeerOpened, RequestRefused

CLOCK_TIMEOUT_S = 2.0
"""How long another worker may take to tell its test clock."""

COLLECTOR_THRESHOLDS = (5_000, 10, 100)
"""New objects before a collection of the youngest; collections of each generation before one of the next."""

SWITCH_INTERVAL_S = 0.0005

log = structlog.get_logger("ocs.serve")


def run(settings: Settings, test_clock: bool = False, orders: Orders | None = None) -> int:
    """Serve until SIGTERM or SIGINT; exit status 0. Raises what keeps it from starting.

    `orders` are those of the supervisor, if there is one (`SupervisorGone`).
    """
    worker = settings.worker if settings.workers.count > 1 else None
    configure_logging(settings.log.level, settings.log.form, worker=worker)
    if orders is not None:
        die_with_supervisor(orders)
    check_installation()
    clock = _test_clock(settings, orders) if test_clock else SystemClock()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, clock, orders))
    return 0


def _test_clock(settings: Settings, orders: Orders | None) -> Clock:
    """A clock that stands still, at the time of the other workers' clocks: they may have been stepped already."""
    # At a whole second, so that the clocks of several workers can be stepped to the same time.
    start_us = int(time.time()) * 1_000_000
    if orders is not None and orders.clock_start_us is not None:
        start_us = orders.clock_start_us
    for path in settings.socket_paths():
        if path != settings.socket_path:
            with contextlib.suppress(OSError, ValueError, KeyError):
                start_us = max(start_us, int(get_json(path, "/v1/clock", CLOCK_TIMEOUT_S)["now_us"]))
    return SteppedClock(start_us)


async def _serve(settings: Settings, clock: Clock, orders: Orders | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runtime = await open_runtime(settings, "server", clock, note=f"socket {settings.socket_path}")
    try:
        await _serve_runtime(settings, runtime, stop, orders)
    finally:
        await runtime.close()


async def _serve_runtime(settings: Settings, runtime: StoreRuntime, stop: asyncio.Event, orders: Orders | None) -> None:
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
            runtime.start_archiving()
            log.info(
                "serving",
                control=str(settings.socket_path),
                diameter=diameter.addresses,
                process=os.getpid(),
                worker_id=runtime.worker_id,
            )
            _settle_interpreter()
            _say_ready(orders)
            await stop.wait()
            log.info("stopping")
            _say_stopping(settings, orders)
        finally:
            await diameter.stop()
            await control.stop()
    except BaseException:
        await diameter.stop()
        raise


def _settle_interpreter() -> None:
    """Leave alone what lives as long as the process, and look at the rest less often: a request leaves no cycles.

    Cached documents are octets, which the collector does not follow, so a full collection stays below 5 ms with 100,000
    accounts in memory (`python -m bench pauses`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    # A thread (the archive's, SQLite's) gives the loop its turn sooner than after the usual five milliseconds.
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def _say_ready(orders: Orders | None) -> None:
    if orders is None:
        tell_service_manager("READY=1")
    else:
        say_ready(orders)


def _say_stopping(settings: Settings, orders: Orders | None) -> None:
    if orders is None:
        tell_service_manager("STOPPING=1")
    else:
        # The supervisor sees to it that this ends, unless it has gone itself.
        end_within(drain_limit_s(settings))


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
    server = DiameterServer(
        settings.diameter,
        local,
        application.handle,
        product_name=settings.node.product_name,
        heard=_note_peers(runtime),
    )
    return server


def _note_peers(runtime: StoreRuntime) -> Callable[[Event], None]:
    """Tell the registry which peers are connected here, so that others know whom to give a notice to."""
    peers = runtime.membership.peers

    def heard(event: Event) -> None:
        if isinstance(event, PeerOpened):
            peers.opened(event.peer.origin_host)
        elif isinstance(event, PeerClosed):
            peers.closed(event.peer.origin_host)

    return heard


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
