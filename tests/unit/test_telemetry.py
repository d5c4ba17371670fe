"""Log lines without subscribers in them, and the node's counters as Prometheus sees them."""

from __future__ import annotations

import io
import json

import pytest
import structlog
from prometheus_client import CollectorRegistry, generate_latest

from ocs.telemetry import configure_logging, diameter_families, diameter_numbers, mask
from tests.support.diameter_kit import Held, NodeKit, raw_avp
from tests.support.gy_client import INITIAL


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("447700900123", "***123"),
        ("+447700900123 has no plan", "***123 has no plan"),
        ("imsi 999700000000001", "imsi ***001"),
        ("sip:alice@example.com", "sip:***@example.com"),
        ("user bob.b@realm.example denied", "user ***@realm.example denied"),
        ("port 3868, code 5012, app 4", "port 3868, code 5012, app 4"),
        ("smf.epc.mnc070.mcc999.3gppnetwork.org", "smf.epc.mnc070.mcc999.3gppnetwork.org"),
        ("smf1;1700000000;42;gy", "smf1;***000;42;gy"),
    ],
)
def test_db_143_identifiers_are_masked(text: str, masked: str) -> None:
    # DB-143: "Messages with privacy-sensitive AVPs ... are never logged in full by default; identifiers masked."
    assert mask(text) == masked


def lines(form: str) -> list[str]:
    stream = io.StringIO()
    configure_logging("info", form, stream)  # type: ignore[arg-type]
    try:
        log = structlog.get_logger("test")
        log.info("charged 447700900123", msisdn="447700900123", errors=["at 447700900123"], result_code=5012)
        log.debug("not shown")
        try:
            raise ValueError("no account for 447700900123")
        except ValueError:
            log.exception("failed")
    finally:
        structlog.reset_defaults()
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("form", ["json", "text", "auto"])
def test_db_143_no_msisdn_in_the_log(form: str) -> None:
    # DB-143: "masked logs". Test: grep log for MSISDN.
    text = "\n".join(lines(form))
    assert "447700900123" not in text
    assert "***123" in text
    assert "5012" in text
    assert "not shown" not in text
    assert "ValueError" in text


def test_json_lines_can_be_read_by_machines() -> None:
    first = json.loads(lines("json")[0])
    assert (first["event"], first["level"], first["result_code"]) == ("charged ***123", "info", 5012)
    assert first["timestamp"].endswith("Z")


def test_counters_of_the_node_are_exported() -> None:
    held = Held()
    kit = NodeKit(held)
    line = kit.open("GW1.example.net")
    line.give(line.requests.ccr(INITIAL, 0, "s1"))
    line.exchange(line.requests.ccr(INITIAL, 0, "s1", extra=[raw_avp(99999, b"")]))
    line.exchange(line.requests.dwr())

    class Collector:
        def collect(self) -> object:
            return diameter_families(kit.node, lambda: kit.now + 60)

    registry = CollectorRegistry()
    registry.register(Collector())  # type: ignore[arg-type]
    text = generate_latest(registry).decode()
    for expected in (
        'ocs_diameter_messages_received_total{command="credit_control",kind="request",peer="gw1.example.net"} 2.0',
        'ocs_diameter_answers_total{peer="gw1.example.net",result_code="5001"} 1.0',
        'ocs_diameter_decode_errors_total{peer="gw1.example.net",result_code="5001"} 1.0',
        'ocs_diameter_connections_total{peer="gw1.example.net"} 1.0',
        'ocs_diameter_peer_connections{peer="gw1.example.net"} 1.0',
        'ocs_diameter_peer_in_flight{peer="gw1.example.net"} 1.0',
        'ocs_diameter_peer_uptime_seconds{peer="gw1.example.net"} 60.0',
    ):
        assert expected in text
    numbers = diameter_numbers(kit.node)
    assert (numbers["diameter_peers_open"], numbers["diameter_requests_in_flight"]) == (1, 1)
