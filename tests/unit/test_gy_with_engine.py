"""Octets in, engine, octets out, without a socket: the numbers of the scenarios as a gateway sees them."""

from __future__ import annotations

from typing import Any

from ocs.servers.gy_application import GyApplication
from protocols.diameter import dictionary as d
from protocols.diameter.avp import decode_message
from protocols.diameter.errors import RemoteProtocolError
from protocols.diameter.events import PeerInfo
from tests.support.charging_kit import Kit
from tests.support.gy_client import (
    EVENT,
    FINAL,
    IMSI,
    INITIAL,
    MIB,
    QUOTA_EXHAUSTED,
    TERMINATION,
    UPDATE,
    Answer,
    Requests,
    mscc,
    proxy_info,
    sms_information,
    subscription,
    units,
)
from tests.support.gy_edge import LOCAL, settings

gateway = Requests()
RELAY = PeerInfo("dra.example.net", "example.net", "127.0.0.1", frozenset({0xFFFFFFFF}), 0, False)


class Edge:
    """A gateway in front of an engine."""

    def __init__(self, cents: int, plan: str = "d10", **profile: Any) -> None:
        self.kit = Kit()
        self.refused: list[RemoteProtocolError] = []
        self.application = GyApplication(
            self.kit.engine,
            lambda: settings(**profile),
            LOCAL,
            self.kit.monotonic,
            5.0,
            lambda _message, error: self.refused.append(error),
        )
        self.kit.account("a", cents, plan, "447700900123")

    def send(self, data: bytes) -> Answer:
        """The one answer to a request."""
        answers: list[bytes] = []
        self.application.handle(decode_message(data), RELAY, answers.append)
        (answer,) = answers
        return Answer(answer)

    def ccr(self, kind: int, number: int, *services: Any, session: str = "s", **options: Any) -> Answer:
        """Send a CCR."""
        return self.send(gateway.ccr(kind, number, session, *services, **options))


def test_prepaid_data_has_the_numbers_of_s01() -> None:
    edge = Edge(1000, send_cost_information=True, send_remaining_balance=True)
    answer = edge.ccr(INITIAL, 0, mscc(requested=[]))
    assert (answer.code, answer.service.result_code, answer.service.granted) == (2001, 2001, {"total": 10_485_760})
    assert (answer.service.validity_s, answer.service.volume_threshold) == (3600, 1_048_576)
    assert edge.kit.balance() == (1000, 100)
    answer = edge.ccr(UPDATE, 1, mscc(requested=[], used=[units(total=10_485_760, reason=QUOTA_EXHAUSTED)]))
    assert (answer.code, answer.service.granted) == (2001, {"total": 10_485_760})
    assert edge.kit.balance() == (900, 100)
    answer = edge.ccr(TERMINATION, 2, mscc(used=[units(total=3_145_728)], reason=FINAL))
    assert answer.code == 2001
    assert d.GRANTED_SERVICE_UNIT not in answer.keys
    assert all(service.granted is None for service in answer.services)
    assert (answer.cost, answer.remaining_balance) == ((130, -2, 978), (870, -2, 978))
    assert edge.kit.balance() == (870, 0)


def test_the_last_grant_carries_a_final_unit_indication() -> None:
    edge = Edge(150)
    assert edge.ccr(INITIAL, 0, mscc(requested=[])).service.final is None
    service = edge.ccr(UPDATE, 1, mscc(requested=[], used=[units(total=10 * MIB)])).service
    assert (service.granted, service.volume_threshold) == ({"total": 5_242_880}, None)
    assert service.final == (0, None, None, (), ())


def test_the_three_policies_on_an_empty_balance() -> None:
    denied = Edge(0).ccr(INITIAL, 0, mscc(requested=[]))
    assert (denied.code, denied.service.result_code, denied.service.granted) == (2001, 4012, None)
    assert (denied.service.final, denied.service.validity_s) == (None, None)
    redirected = Edge(0, "d10-redirect").ccr(INITIAL, 0, mscc(requested=[])).service
    assert (redirected.result_code, redirected.granted, redirected.validity_s) == (2001, None, 300)
    assert redirected.final == (1, 2, "http://topup.example.net/", (), ())
    restricted = Edge(0, "d10-restrict").ccr(INITIAL, 0, mscc(requested=[])).service
    assert (restricted.result_code, restricted.granted, restricted.validity_s) == (2001, None, 300)
    assert restricted.final == (2, None, None, (), ("topup-only",))


def test_a_repeat_over_another_proxy_gets_the_same_answer_with_its_own_proxy_info() -> None:
    edge = Edge(1000)
    edge.ccr(INITIAL, 0, mscc(requested=[]))
    service = mscc(requested=[], used=[units(total=10 * MIB)])
    first = edge.ccr(UPDATE, 1, service, extra=[proxy_info("p1", b"1")])
    repeat = edge.ccr(UPDATE, 1, service, extra=[proxy_info("p2", b"2")], retransmit=True, hop_by_hop=4711)
    assert repeat.message.proxy_infos == [proxy_info("p2", b"2")]
    assert repeat.message.hop_by_hop == 4711
    assert repeat.services == first.services
    assert edge.kit.balance() == (900, 100)


def test_messages_have_the_numbers_of_s13() -> None:
    edge = Edge(100)
    sms = {"context": "32274@3gpp.org", "action": 0}
    one = mscc(None, requested=units(events=1))
    answer = edge.ccr(EVENT, 0, one, session="e1", **sms)
    assert (answer.code, answer.service.result_code, answer.service.granted) == (2001, 2001, {"events": 1})
    assert edge.kit.balance() == (91, 0)
    answer = edge.ccr(EVENT, 0, one, session="e2", extra=[sms_information(3)], **sms)
    assert (answer.service.granted, edge.kit.balance()) == ({"events": 3}, (64, 0))
    again = edge.ccr(EVENT, 0, one, session="e2", extra=[sms_information(3)], retransmit=True, **sms)
    assert (again.services, edge.kit.balance()) == (answer.services, (64, 0))
    poor = Edge(5)
    answer = poor.ccr(EVENT, 0, one, session="e1", **sms)
    assert (answer.code, answer.service.result_code, answer.service.granted) == (4012, 4012, None)
    assert poor.kit.balance() == (5, 0)


def test_keys_that_are_not_charged_have_their_codes() -> None:
    edge = Edge(1000)
    answer = edge.ccr(INITIAL, 0, *(mscc(group, requested=[]) for group in (100, 300, 400, 500, 999)))
    assert answer.code == 2001
    codes = {service.rating_group: service.result_code for service in answer.services}
    # CC-079, CC-076, CC-077, CC-075
    assert codes == {100: 2001, 300: 4011, 400: 4010, 500: 5003, 999: 5031}
    assert answer.failed == [(d.RATING_GROUP, 999)]


def test_money_asked_in_a_session_fails_its_key_only() -> None:
    edge = Edge(1000)
    answer = edge.ccr(INITIAL, 0, mscc(100, requested=units(money=(5, 0, 978))), mscc(200, requested=[]))
    assert [service.result_code for service in answer.services] == [5004, 2001]
    assert answer.failed[0][0] in (d.CC_MONEY, d.REQUESTED_SERVICE_UNIT)


def test_identities_and_sessions_that_are_not_known() -> None:
    edge = Edge(1000)
    assert edge.ccr(INITIAL, 0, mscc(requested=[]), msisdn="15550001").code == 5030
    assert edge.ccr(UPDATE, 1, mscc(requested=[]), session="never").code == 5002
    edge.kit.account("b", 100, msisdn="15550002")
    both = edge.ccr(INITIAL, 0, msisdn="447700900123", extra=[subscription(0, "15550002")], session="s2")
    assert both.code == 5007
    assert [one[0] for one in both.all(d.FAILED_AVP)[0]] == [d.SUBSCRIPTION_ID, d.SUBSCRIPTION_ID]


def test_plus_and_services_of_one_rating_group() -> None:
    edge = Edge(1000)
    answer = edge.ccr(
        INITIAL, 0, mscc(100, services=[1], requested=[]), mscc(100, services=[2], requested=[]), msisdn="+447700900123"
    )
    assert (answer.service.rating_group, answer.service.services) == (100, (1, 2))
    assert edge.kit.balance() == (1000, 100)


def test_a_request_of_wrong_form_is_logged_and_refused() -> None:
    edge = Edge(1000)
    assert edge.ccr(INITIAL, 0, context="99999@3gpp.org").code == 5031
    assert [error.result_code for error in edge.refused] == [5031]


def test_an_unknown_imsi_beside_a_known_number_is_no_contradiction() -> None:
    edge = Edge(1000)
    assert edge.ccr(INITIAL, 0, extra=[subscription(IMSI, "001019999999999")]).code == 2001
