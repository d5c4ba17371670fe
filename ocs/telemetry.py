"""Log and metrics: structured lines with identifiers masked (DB-143), and the node's integers in Prometheus families.

Nothing here runs on the charging path: counting is plain integers where things happen, gathered when somebody asks.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from protocols.diameter import header
from protocols.diameter.counters import PeerCounters
from protocols.diameter.node import Node

COMMAND_NAMES = {
    header.CAPABILITIES_EXCHANGE: "capabilities_exchange",
    header.RE_AUTH: "re_auth",
    header.CREDIT_CONTROL: "credit_control",
    header.ABORT_SESSION: "abort_session",
    header.SESSION_TERMINATION: "session_termination",
    header.DEVICE_WATCHDOG: "device_watchdog",
    header.DISCONNECT_PEER: "disconnect_peer",
    header.SPENDING_LIMIT: "spending_limit",
    header.SPENDING_STATUS_NOTIFICATION: "spending_status_notification",
}
"""Label values; every other command is `other`, so that a peer cannot make labels without end."""

SHOWN_DIGITS = 3
"""Digits of a masked number that stay, so that two lines about one subscriber can be matched."""

_NUMBER = re.compile(r"(?<![0-9A-Za-z.])\+?[0-9]{7,}(?![0-9A-Za-z])")
_USER_PART = re.compile(r"(?i)\b(sips?:|tel:)?([A-Z0-9._+-]+)@(?=[A-Z0-9-]+\.)")
_SECRET_KEYS = frozenset({"identity", "imsi", "msisdn", "e164", "nai", "username", "user_name", "subscription_id"})
_PLAIN_KEYS = frozenset({"event", "level", "logger", "timestamp", "origin_host", "source", "addresses", "admit"})


def mask(text: str) -> str:
    """Hide numbers of seven digits and more, and the user part of addresses.

    A run of digits inside a longer word, as in a host name or a hash, stays.
    """
    return _USER_PART.sub(lambda found: f"{found[1] or ''}***@", _NUMBER.sub(_masked_number, text))


def _masked_number(found: re.Match[str]) -> str:
    return "***" + found[0][-SHOWN_DIGITS:]


def mask_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask a log line: fields named for an identity wholly, texts by what they look like."""
    for key, value in event.items():
        if key in _SECRET_KEYS:
            event[key] = "***" + str(value)[-SHOWN_DIGITS:]
        elif key not in _PLAIN_KEYS or key == "event":
            event[key] = _masked(value)
    return event


def _add_worker(worker: int) -> structlog.typing.Processor:
    def add(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["worker"] = worker
        return event

    return add


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {key: _masked(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(one) for one in value]
    return value


def configure_logging(
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["auto", "text", "json"] = "auto",
    stream: TextIO | None = None,
    worker: int | None = None,
) -> None:
    """Send log lines to `stream` (standard error); `auto`: text on a terminal, else one JSON object to a line.

    `worker` stands in every line of a process that is one of several.
    """
    stream = sys.stderr if stream is None else stream
    text = form == "text" or (form == "auto" and stream.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty()) if text else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.StackInfoRenderer(),
            mask_event,
            *([] if worker is None else [_add_worker(worker)]),
            # After masking: a time is full of digits that hide nobody.
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )


_BY_PEER: tuple[tuple[str, str, str], ...] = (
    ("error_bit_answers", "ocs_diameter_error_bit_answers", "Answers sent with the E bit"),
    ("tolerated_avps", "ocs_diameter_tolerated_avps", "Unknown mandatory AVPs let pass by a peer's settings"),
    ("unmatched_answers", "ocs_diameter_unmatched_answers", "Answers received to no request of this server"),
    ("watchdogs_sent", "ocs_diameter_watchdogs_sent", "DWRs sent"),
    ("watchdogs_missed", "ocs_diameter_watchdogs_missed", "DWRs that were not answered in time"),
    ("connections", "ocs_diameter_connections", "Connections opened"),
    ("overloads", "ocs_diameter_overloads", "Requests refused because too many were in flight"),
    ("late_answers", "ocs_diameter_late_answers", "Answers that came after the deadline"),
    ("dropped_answers", "ocs_diameter_dropped_answers", "Answers whose connection was gone"),
    ("refused_answers", "ocs_diameter_refused_answers", "Answers that took the place of one that could not be built"),
)
"""Field of `PeerCounters`, name, help; `peer` is the only label. An empty `peer`: before the capabilities exchange."""


def diameter_families(node: Node, monotonic: Callable[[], float] = time.monotonic) -> Iterator[Metric]:
    """The node's counters (diameter-base.md §10) as Prometheus families; `monotonic` is the clock of the peers."""
    hosts = node.all_counters()
    yield _messages("ocs_diameter_messages_received", "Messages received", hosts, "received")
    yield _messages("ocs_diameter_messages_sent", "Messages sent", hosts, "sent")
    yield _codes("ocs_diameter_answers", "Answers sent by Result-Code", hosts, "answers")
    yield _codes("ocs_diameter_decode_errors", "What was wrong in received messages", hosts, "decode_errors")
    for field, name, text in _BY_PEER:
        family = CounterMetricFamily(name, text, labels=("peer",))
        for host, counters in hosts.items():
            family.add_metric((host,), getattr(counters, field))
        yield family
    yield from _open_peers(node, monotonic())


def _open_peers(node: Node, now: float) -> Iterable[Metric]:
    count: dict[str, int] = {}
    in_flight: dict[str, int] = {}
    uptime: dict[str, float] = {}
    for peer in node.peers():
        host = peer.info.origin_host.lower() if peer.info is not None else ""
        count[host] = count.get(host, 0) + 1
        in_flight[host] = in_flight.get(host, 0) + peer.in_flight
        uptime[host] = max(uptime.get(host, 0.0), now - (peer.opened_at if peer.opened_at is not None else now))
    for name, text, values in (
        ("ocs_diameter_peer_connections", "Connections open now", count),
        ("ocs_diameter_peer_in_flight", "Requests that wait for their answers", in_flight),
        ("ocs_diameter_peer_uptime_seconds", "Age of the oldest open connection", uptime),
    ):
        family = GaugeMetricFamily(name, text, labels=("peer",))
        for host, value in values.items():
            family.add_metric((host,), value)
        yield family


def _messages(name: str, text: str, hosts: Mapping[str, PeerCounters], field: str) -> Metric:
    """Counters by `counters.message_key`."""
    family = CounterMetricFamily(name, text, labels=("peer", "command", "kind"))
    for host, counters in hosts.items():
        added: dict[tuple[str, str], int] = {}
        for key, count in getattr(counters, field).items():
            label = (COMMAND_NAMES.get(key >> 1, "other"), "request" if key & 1 else "answer")
            added[label] = added.get(label, 0) + count
        for (command, kind), count in added.items():
            family.add_metric((host, command, kind), count)
    return family


def _codes(name: str, text: str, hosts: Mapping[str, PeerCounters], field: str) -> Metric:
    family = CounterMetricFamily(name, text, labels=("peer", "result_code"))
    for host, counters in hosts.items():
        for code, count in getattr(counters, field).items():
            family.add_metric((host, str(code)), count)
    return family


def diameter_numbers(node: Node) -> dict[str, int]:
    """The few numbers that an operator asks for first."""
    peers = list(node.peers())
    counters = list(node.all_counters().values())
    return {
        "diameter_connections_open": len(peers),
        "diameter_peers_open": len({peer.info.origin_host.lower() for peer in peers if peer.info is not None}),
        "diameter_requests_in_flight": sum(peer.in_flight for peer in peers),
        "diameter_late_answers": sum(one.late_answers for one in counters),
        "diameter_overloads": sum(one.overloads for one in counters),
    }
