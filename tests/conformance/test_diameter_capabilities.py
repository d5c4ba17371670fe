"""diameter-base.md §5, row by row: capabilities exchange, on a node without sockets."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from ocs.servers.diameter_server import admission_hint
from protocols.diameter import dictionary as d
from protocols.diameter.avp import decode_message
from protocols.diameter.events import PeerOpened, PeerRefused, RequestReceived
from protocols.diameter.peer_table import State
from protocols.diameter.settings import UnknownPeers
from tests.support.diameter_kit import REQUEST, Line, NodeKit, provisioned, raw_avp
from tests.support.gy_client import INITIAL

LAN = (ipaddress.ip_network("10.1.0.0/16"),)
RELAY = 0xFFFFFFFF


def ccr(line: Line) -> bytes:
    return line.requests.ccr(INITIAL, 0, "s1")


@pytest.mark.parametrize("missing", [d.ORIGIN_HOST, d.ORIGIN_REALM, d.HOST_IP_ADDRESS, d.VENDOR_ID, d.PRODUCT_NAME])
def test_db_080_a_cer_without_a_required_avp_is_5005(missing: int) -> None:
    # DB-080: "CER required: Origin-Host, Origin-Realm, 1*Host-IP-Address, Vendor-Id, Product-Name. Missing -> CEA 5005
    # + Failed-AVP."
    line = NodeKit().connect()
    items = [(key, value) for key, _, value in decode_message(line.requests.cer()).avps if key != missing]
    answer = line.exchange(line.requests.message(257, 0, REQUEST, items))
    assert answer.code == 5005
    assert not answer.message.is_error
    # In octets: a decoder leaves an empty Host-IP-Address out of what is quoted.
    quoted = answer.data[answer.data.index(bytes.fromhex("00000117 40")) + 8 :]
    assert int.from_bytes(quoted[:4], "big") == missing
    assert line.closed is not None
    assert line.peer.state is State.CLOSED


@pytest.mark.parametrize("key", [d.ORIGIN_HOST, d.ORIGIN_REALM])
@pytest.mark.parametrize("name", ["", "gw1.example.net\nadmit", 'gw1" networks = ["0.0.0.0/0', "gw 1", "x" * 256])
def test_db_085_who_is_no_name_does_not_come_in(key: int, name: str) -> None:
    # DB-085: peers are known by their Origin-Host, and "the log line shows the command that admits the peer": what is
    # no name must not stand there. Value of an AVP out of range: 5004 with Failed-AVP (table 0).
    line = NodeKit(unknown_peers=UnknownPeers.ACCEPT).connect()
    items = [(one, value) for one, _, value in decode_message(line.requests.cer()).avps if one != key]
    answer = line.exchange(line.requests.message(257, 0, REQUEST, [*items, (key, name)]))
    assert (answer.code, answer.message.is_error) == (5004, False)
    assert raw_avp(d.FAILED_AVP, raw_avp(key, name.encode())) in answer.data
    refused = line.event(PeerRefused)
    assert refused.origin_host == ("" if key == d.ORIGIN_HOST else "gw1.example.net")
    assert line.closed is not None


@pytest.mark.parametrize(
    "extra",
    [
        [(d.AUTH_APPLICATION_ID, 4)],
        [(d.ACCT_APPLICATION_ID, 4)],
        [(d.VENDOR_SPECIFIC_APPLICATION_ID, [(d.VENDOR_ID, 4711), (d.AUTH_APPLICATION_ID, 4)])],
        [(d.AUTH_APPLICATION_ID, 16777238), (d.AUTH_APPLICATION_ID, 4)],
    ],
)
def test_db_081_a_common_application_may_stand_anywhere(extra: list[Any]) -> None:
    # DB-081: "Common applications = intersection over Auth-Application-Id, Acct-Application-Id and the ids inside every
    # Vendor-Specific-Application-Id; the Vendor-Id in VSAI is not compared."
    line = NodeKit().connect()
    assert line.exchange(line.requests.cer((), extra)).code == 2001
    assert 4 in line.event(PeerOpened).peer.applications


def test_db_081_no_common_application_is_5010() -> None:
    # DB-081: "Empty -> CEA 5010, then close." Test: CER with only 16777238.
    line = NodeKit().connect()
    answer = line.exchange(line.requests.cer((16777238,)))
    assert answer.code == 5010
    assert not answer.message.is_error
    assert answer.get(d.AUTH_APPLICATION_ID) == 4
    assert line.closed is not None


def test_db_082_a_relay_always_has_a_common_application() -> None:
    # DB-082: "Peer advertising 0xFFFFFFFF (relay) always has a common application."
    line = NodeKit().connect()
    assert line.exchange(line.requests.cer((RELAY,))).code == 2001
    assert line.event(PeerOpened).peer.applications == {RELAY}


def test_db_083_the_cea_lists_what_we_are() -> None:
    # DB-083: "CEA lists all local applications: Auth-Application-Id 4; ... Supported-Vendor-Id 10415; plus
    # Host-IP-Address, Vendor-Id, Product-Name (M=0), Firmware-Revision (M=0, optional), Origin-State-Id."
    line = NodeKit(firmware_revision=7, vendor_id=10415).connect()
    cea = line.exchange(line.requests.cer())
    assert cea.all(d.AUTH_APPLICATION_ID) == [4]
    assert cea.all(d.SUPPORTED_VENDOR_ID) == [10415]
    assert cea.all(d.HOST_IP_ADDRESS) == [(1, "127.0.0.1")]
    assert (cea.get(d.VENDOR_ID), cea.get(d.PRODUCT_NAME)) == (10415, "tollgate-ocs")
    assert (cea.get(d.FIRMWARE_REVISION), cea.get(d.ORIGIN_STATE_ID)) == (7, 1)
    flags = {key: flags for key, flags, _ in cea.message.avps}
    assert flags[d.PRODUCT_NAME] == flags[d.FIRMWARE_REVISION] == 0


def test_db_084_vendor_specific_application_without_or_with_two_ids() -> None:
    # DB-084: "VSAI without either application id -> 5005 (Failed-AVP with example of both); with both -> 5009
    # (Failed-AVP with both)."
    both = {d.AUTH_APPLICATION_ID, d.ACCT_APPLICATION_ID}
    for members, code in (([], 5005), ([(d.AUTH_APPLICATION_ID, 4), (d.ACCT_APPLICATION_ID, 4)], 5009)):
        line = NodeKit().connect()
        group = (d.VENDOR_SPECIFIC_APPLICATION_ID, [(d.VENDOR_ID, 10415), *members])
        answer = line.exchange(line.requests.cer((4,), [group]))
        assert answer.code == code
        ((_, _, quoted),) = answer.get(d.FAILED_AVP)
        assert {key for key, _, _ in quoted} == both


def test_db_085_an_unknown_peer_from_elsewhere_is_3010() -> None:
    # DB-085: "policy reject -> CEA 3010 with E=1 then close ... Default: accept from loopback, reject elsewhere"
    kit = NodeKit(plain_networks=LAN)
    line = kit.connect(source="10.1.2.3")
    answer = line.exchange(line.requests.cer())
    assert answer.code == 3010
    assert answer.message.is_error
    assert line.closed is not None
    assert kit.connect(source="127.0.0.1").open().event(PeerOpened).peer.provisioned is False


@pytest.mark.parametrize(
    ("policy", "source", "code"),
    [
        (UnknownPeers.REJECT, "127.0.0.1", 3010),
        (UnknownPeers.ACCEPT, "10.1.2.3", 2001),
        (UnknownPeers.ACCEPT_LOOPBACK, "::1", 2001),
        (UnknownPeers.ACCEPT_LOOPBACK, "::ffff:127.0.0.1", 2001),
    ],
)
def test_db_085_policies(policy: UnknownPeers, source: str, code: int) -> None:
    # DB-085: "policy accept -> 2001, peer lives as long as the connection"
    kit = NodeKit(plain_networks=LAN, unknown_peers=policy)
    line = kit.connect(source=source)
    assert line.exchange(line.requests.cer()).code == code
    assert len(list(kit.node.peers())) == (1 if code == 2001 else 0)
    line.handle(line.peer.transport_lost("closed", kit.now))
    assert list(kit.node.peers()) == []


def test_db_085_the_log_line_shows_how_to_admit_the_peer() -> None:
    # DB-085: "the log line shows the command that admits the peer"
    line = NodeKit(unknown_peers=UnknownPeers.REJECT).connect("gw9.example.net")
    line.exchange(line.requests.cer())
    refused = line.event(PeerRefused)
    hint = admission_hint(refused.origin_host, refused.source)
    assert hint == '[[diameter.peers]] origin_host = "gw9.example.net" networks = ["127.0.0.1"]'


def test_db_086_an_origin_host_from_another_address_is_3010() -> None:
    # DB-086: "Peer identity checks: Origin-Host vs configured source address(es) ... Mismatch -> 3010 / close." Test:
    # spoofed Origin-Host.
    kit = NodeKit(peers=(provisioned(networks=LAN),), unknown_peers=UnknownPeers.ACCEPT)
    spoofed = kit.connect("GW1.Example.net", source="127.0.0.1")
    answer = spoofed.exchange(spoofed.requests.cer())
    assert answer.code == 3010
    assert answer.message.is_error
    assert spoofed.closed is not None
    assert kit.connect("GW1.Example.net", source="10.1.0.7").open().event(PeerOpened).peer.provisioned


def test_db_086_nobody_comes_in_under_our_own_name() -> None:
    # DB-086: "spoofed Origin-Host"
    line = NodeKit(unknown_peers=UnknownPeers.ACCEPT).connect("OCS1.example.com")
    assert line.exchange(line.requests.cer()).code == 3010


@pytest.mark.parametrize(("offered", "code"), [([1], 5017), ([0], 2001), ([0, 1], 2001), ([], 2001)])
def test_db_087_inband_security(offered: list[int], code: int) -> None:
    # DB-087: "If the CER offers only TLS(1) and we do not support in-band TLS -> CEA 5017, close. Absent or 0 ->
    # continue."
    line = NodeKit().connect()
    cer = line.requests.cer(extra=[(d.INBAND_SECURITY_ID, value) for value in offered])
    assert line.exchange(cer).code == code
    assert (line.closed is not None) == (code == 5017)


def test_db_088_a_second_cer_changes_nothing() -> None:
    # DB-088: "CER on an already open connection ... Answer 5012 or re-answer 2001 without change; do not drop
    # sessions"
    kit = NodeKit()
    line = kit.open()
    assert line.exchange(line.requests.cer((RELAY,))).code == 2001
    assert line.peer.info is not None
    assert line.peer.info.applications == {4}
    assert line.exchange(ccr(line)).code == 2001
    assert len(list(kit.node.peers())) == 1


def test_db_089_no_application_message_before_the_cea() -> None:
    # DB-089: "No application message is processed before the CEA has been sent." Test: CCR first -> close.
    line = NodeKit().connect()
    line.give(ccr(line) + line.requests.cer())
    assert line.answers() == []
    assert line.closed is not None
    assert not line.heard(RequestReceived)


def test_db_089_a_request_right_behind_the_cer_is_served() -> None:
    # DB-089: "before the CEA has been sent": in the same segment the CEA goes first.
    line = NodeKit().connect()
    line.give(line.requests.cer() + ccr(line))
    assert [one.message.command for one in line.answers()] == [257, 272]
