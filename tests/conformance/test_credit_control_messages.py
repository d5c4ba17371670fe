"""Rows of docs/requirements/credit-control.md that are decided by the form of a CCR or a CCA.

Each test is named by the row it proves; the row stands above the assertion. A test without an id proves only the
message half of the row that it quotes; the other half needs the engine (a balance, a session) and is proved there.
"""

from __future__ import annotations

from typing import Any

import pytest

from ocs.charging.requests import (
    EventAction,
    FinalAction,
    FinalUnit,
    Identity,
    QuotaKey,
    Reason,
    RequestKind,
    Result,
    ServiceOutcome,
    UnitKind,
    Units,
)
from ocs.servers.gy import read_request
from protocols.diameter import dictionary as d
from protocols.diameter.avp import decode_message, encode_avp, first
from protocols.diameter.header import FLAG_ERROR, FLAG_PROXIABLE, FLAG_REQUEST, FLAG_RETRANSMIT
from tests.support.gy_client import (
    DIRECT_DEBITING,
    EVENT,
    IMSI,
    INITIAL,
    MIB,
    NAI,
    PRICE_ENQUIRY,
    PRIVATE,
    SIP_URI,
    TERMINATION,
    UPDATE,
    Requests,
    cc_money,
    mscc,
    proxy_info,
    sms_information,
    subscription,
    units,
)
from tests.support.gy_edge import answered, charging, key, outcome, read, refusal, refused, settings

SMS = "32274@3gpp.org"
RFC = "voice@rfc.example"
MSISDN_A, IMSI_B = "447700900123", "001010000000002"

gateway = Requests()


def initial(*services: Any, **options: Any) -> bytes:
    """A CCR-I of session s1."""
    return gateway.ccr(INITIAL, 0, "s1", *services, **options)


def event(*services: Any, action: int | None = DIRECT_DEBITING, **options: Any) -> bytes:
    """A CCR of an SMS event."""
    return gateway.ccr(EVENT, 0, "e1", *services, action=action, **{"context": SMS, **options})


def grant(granted: int = 10 * MIB, rating_group: int | None = 100, **fields: Any) -> ServiceOutcome:
    """A grant of octets."""
    fields.setdefault("unit", UnitKind.OCTETS)
    return ServiceOutcome(key(rating_group), granted=granted, **fields)


# §1 CCR validation


@pytest.mark.parametrize(
    ("missing", "example"),
    [
        (d.SESSION_ID, "00000107 40000008"),
        (d.ORIGIN_HOST, "00000108 40000008"),
        (d.ORIGIN_REALM, "00000128 40000008"),
        (d.DESTINATION_REALM, "0000011b 40000008"),
        (d.AUTH_APPLICATION_ID, "00000102 4000000c 00000000"),
        (d.SERVICE_CONTEXT_ID, "000001cd 40000008"),
        (d.CC_REQUEST_TYPE, "000001a0 4000000c 00000000"),
        (d.CC_REQUEST_NUMBER, "0000019f 4000000c 00000000"),
    ],
)
def test_cc_001_a_missing_required_avp_is_5005_with_an_example(missing: int, example: str) -> None:
    # CC-001: "Required: Session-Id, Origin-Host, Origin-Realm, Destination-Realm, Auth-Application-Id,
    # Service-Context-Id, CC-Request-Type, CC-Request-Number. Missing -> Failed-AVP with example. | cmd 5005"
    error = refused(initial(without=[missing]))
    assert error.result_code == 5005
    assert error.failed_avp == bytes.fromhex(example)
    assert refusal(initial(without=[missing])).code == 5005


def test_cc_001_auth_application_id_inside_vendor_specific_application_id_counts() -> None:
    # CC-001: "An Auth-Application-Id inside Vendor-Specific-Application-Id counts (Kamailio)."
    vsai = (d.VENDOR_SPECIFIC_APPLICATION_ID, [(d.VENDOR_ID, 10415), (d.AUTH_APPLICATION_ID, 4)])
    assert read(initial(without=[d.AUTH_APPLICATION_ID], extra=[vsai])).session_id == "s1"


def test_cc_002_auth_application_id_other_than_4_is_5004() -> None:
    # CC-002: "Auth-Application-Id must be 4. | cmd 5004 | value 3"
    answer = refusal(initial(without=[d.AUTH_APPLICATION_ID], extra=[(d.AUTH_APPLICATION_ID, 3)]))
    assert answer.code == 5004
    assert answer.failed == [(d.AUTH_APPLICATION_ID, 3)]


def test_db_028_application_of_header_and_body_must_agree() -> None:
    # DB-028: "Header Application-Id must equal Auth-Application-Id / Acct-Application-Id / VSAI content in the body
    # ... 5004 + Failed-AVP(Auth-Application-Id) | header 4, AVP 16777238"
    vsai = (d.VENDOR_SPECIFIC_APPLICATION_ID, [(d.VENDOR_ID, 10415), (d.AUTH_APPLICATION_ID, 16777238)])
    answer = refusal(initial(extra=[vsai]))
    assert answer.code == 5004
    assert answer.failed == [(d.AUTH_APPLICATION_ID, 16777238)]


@pytest.mark.parametrize("value", [0, 5])
def test_cc_003_cc_request_type_outside_1_to_4_is_5004(value: int) -> None:
    # CC-003: "CC-Request-Type 1..4 (0 reserved). | cmd 5004 + Failed-AVP | 0 and 5"
    answer = refusal(gateway.ccr(value, 0, "s1"))
    assert answer.code == 5004
    assert answer.failed == [(d.CC_REQUEST_TYPE, value)]


def test_cc_004_event_without_requested_action_is_5005() -> None:
    # CC-004: "EVENT_REQUEST(4) requires Requested-Action. | cmd 5005 + Failed-AVP | omit"
    answer = refusal(event(mscc(requested=units(events=1)), action=None))
    assert answer.code == 5005
    assert answer.failed == [(d.REQUESTED_ACTION, 0)]


@pytest.mark.parametrize("kind", [EVENT, INITIAL])
def test_cc_005_requested_action_outside_0_to_3_is_5004(kind: int) -> None:
    # CC-005: "Requested-Action outside 0..3. | cmd 5004 | 4"
    answer = refusal(gateway.ccr(kind, 0, "s1", action=4))
    assert answer.code == 5004
    assert answer.failed == [(d.REQUESTED_ACTION, 4)]


@pytest.mark.parametrize("kind", [INITIAL, UPDATE, TERMINATION])
def test_cc_006_requested_action_in_a_session_request_is_ignored_and_noted(kind: int) -> None:
    # CC-006: "Requested-Action in a session request (1,2,3): ignore, log. | 2001"
    data = gateway.ccr(kind, 0, "s1", action=1)
    assert charging(data).action is None
    assert "requested-action-ignored" in read(data).notes


def test_cc_007_unsupported_service_context_is_5031_with_the_context() -> None:
    # CC-007: "Service-Context-Id not supported -> Failed-AVP contains the Service-Context-Id. | cmd 5031 |
    # "99999@3gpp.org""
    answer = refusal(initial(context="99999@3gpp.org"))
    assert answer.code == 5031
    assert answer.failed == [(d.SERVICE_CONTEXT_ID, "99999@3gpp.org")]


@pytest.mark.parametrize("context", ["32251@3gpp.org", "8.32251@3gpp.org", "ext.001.001.15.32251@3gpp.org"])
def test_cc_008_service_context_is_matched_on_its_tail(context: str) -> None:
    # CC-008: "3GPP form is [ext.][MNC.MCC.][Release.]32251@3gpp.org. Compare on the NNNNN@3gpp.org tail; keep the
    # release as information. | 2001"
    ccr = read(initial(context=context))
    assert ccr.service_context == "32251@3gpp.org"
    assert ccr.service_context_id == context
    assert charging(initial(context=context)).service_context == "32251@3gpp.org"


def test_cc_008_digits_before_the_tail_are_not_the_tail() -> None:
    # CC-008: "Compare on the NNNNN@3gpp.org tail" - of a context part, not of any text that ends alike.
    assert refusal(initial(context="132251@3gpp.org")).code == 5031


def test_cc_009_unknown_avp_with_m_is_5001_and_passes_when_tolerated() -> None:
    # CC-009: "Unknown M=1 AVP -> base rule DB-046; tolerate list per peer. | cmd 5001 + Failed-AVP | code 99999 M=1"
    unknown = encode_avp(99999, b"\x00\x00\x00\x07", 0x40)
    data = initial(extra=[unknown])
    error = refused(data)
    assert error.result_code == 5001
    assert error.failed_avp == unknown
    message = decode_message(data, frozenset({99999}))
    assert read_request(message, settings())[0].session_id == "s1"


def test_cc_010_money_asked_by_a_3gpp_session_fails_the_key_not_the_message() -> None:
    # CC-010: "Unsupported unit type in RSU (e.g. CC-Money from a 3gpp peer) is an invalid AVP. | MSCC (or cmd) 5004 +
    # Failed-AVP | RSU{CC-Money}"
    data = initial(mscc(100, requested=units(money=(500, -2, 978))), mscc(200, requested=[]))
    wrong = ServiceOutcome(key(100), Result.INVALID_VALUE, detail="requested_money")
    answer = answered(data, outcome(wrong, grant(rating_group=200)))
    assert answer.code == 2001
    assert [one.result_code for one in answer.services] == [5004, 2001]
    group, rsu, money = d.MULTIPLE_SERVICES_CREDIT_CONTROL, d.REQUESTED_SERVICE_UNIT, d.CC_MONEY
    assert answer.message.data.count(encode_avp(group, [(rsu, [(money, cc_money(500, -2))])])) == 1


def test_cc_010_money_asked_by_a_3gpp_event_is_5004_with_the_chain() -> None:
    # CC-010, as above; an event has one service, so the command fails.
    error = refused(event(mscc(100, requested=units(money=(500, -2, 978)))))
    assert error.result_code == 5004
    chain = [(d.REQUESTED_SERVICE_UNIT, [(d.CC_MONEY, cc_money(500, -2))])]
    assert error.failed_avp == encode_avp(d.MULTIPLE_SERVICES_CREDIT_CONTROL, chain)


def test_cc_010_money_asked_by_an_rfc_client_is_read_exactly() -> None:
    # credit-control.md §0: "CC-Money | not in the Ro unit groups | allowed" in the rfc profile.
    data = event(context=RFC, extra=[(d.REQUESTED_SERVICE_UNIT, units(money=(25, -2, 978)))])
    (service,) = charging(data).services
    assert service.requested == Units(money_micros=250_000, currency=978)


@pytest.mark.parametrize("kind", [INITIAL, EVENT])
def test_cc_012_no_identity_on_initial_or_event_is_5005(kind: int) -> None:
    # CC-012: "User identity on INITIAL/EVENT: at least one usable Subscription-Id, Subscription-Id-Extension or
    # User-Name. None: | cmd 5005 Failed-AVP(Subscription-Id)"
    answer = refusal(gateway.ccr(kind, 0, "s1", msisdn=None, action=0 if kind == EVENT else None))
    assert answer.code == 5005
    assert answer.failed == [(d.SUBSCRIPTION_ID, [])]


@pytest.mark.parametrize(
    "identity",
    [
        (d.USER_NAME, "alice"),
        (d.SUBSCRIPTION_ID_EXTENSION, [(d.SUBSCRIPTION_ID_IMSI, IMSI_B)]),
        subscription(PRIVATE, "p-1"),
    ],
)
def test_cc_012_each_kind_of_identity_suffices(identity: tuple[int, Any]) -> None:
    # CC-012, as above.
    assert len(charging(initial(msisdn=None, extra=[identity])).identities) == 1


def test_cc_012_an_identity_that_normalises_to_nothing_is_5005_too() -> None:
    # CC-012: "at least one usable": the engine finds none left and says so.
    data = initial(msisdn="+")
    assert charging(data).identities == ()
    answer = answered(data, outcome(result=Result.IDENTITY_MISSING, detail="identity"))
    assert (answer.code, answer.failed) == (5005, [(d.SUBSCRIPTION_ID, [])])


def test_unprovisioned_subscriber_is_5030() -> None:
    # CC-013: "Identity present, subscriber not provisioned. | cmd 5030"
    answer = answered(initial(), outcome(result=Result.USER_UNKNOWN, detail="identity"))
    assert (answer.code, answer.failed) == (5030, [])


def test_cc_014_identities_are_tried_in_the_configured_order() -> None:
    # CC-014: "Several Subscription-Ids: try in configured order (default E164, IMSI, NAI, SIP-URI, PRIVATE)."
    extra = [
        subscription(PRIVATE, "p"),
        subscription(SIP_URI, "sip:a@x"),
        subscription(NAI, "n@x"),
        subscription(IMSI, "00101"),
        (d.USER_NAME, "u"),
    ]
    data = initial(extra=extra)
    kinds = [identity.kind for identity in charging(data).identities]
    assert kinds == ["e164", "imsi", "nai", "sip", "private", "username"]
    reordered = charging(data, identity_order=("username", "imsi"))
    assert reordered.identities == (Identity("username", "u"), Identity("imsi", "00101"))


def test_cc_014_contradicting_identities_are_5007_with_both() -> None:
    # CC-014: "If two resolve to different subscribers: | cmd 5007 + Failed-AVP both | MSISDN of A + IMSI of B"
    data = initial(extra=[subscription(IMSI, IMSI_B)])
    answer = answered(data, outcome(result=Result.CONTRADICTING_IDENTITIES, detail="identity"))
    assert answer.code == 5007
    (failed,) = answer.all(d.FAILED_AVP)
    assert [[value for _key, _flags, value in members] for _key, _flags, members in failed] == [
        [0, MSISDN_A],
        [1, IMSI_B],
    ]


def test_cc_015_unknown_subscription_id_type_alone_is_5004() -> None:
    # CC-015: "Unknown Subscription-Id-Type follows the M-bit rule: if no other usable identity exists -> | cmd 5004 |
    # type 9 only"
    answer = refusal(initial(msisdn=None, extra=[subscription(9, "x")]))
    assert answer.code == 5004
    ((failed,),) = answer.all(d.FAILED_AVP)
    assert failed[0] == d.SUBSCRIPTION_ID
    assert [value for _key, _flags, value in failed[2]] == [9, "x"]


def test_cc_015_unknown_subscription_id_type_beside_a_usable_one_is_ignored() -> None:
    # CC-015: "if no other usable identity exists": here one does.
    assert charging(initial(extra=[subscription(9, "x")])).identities == (Identity("e164", MSISDN_A),)


@pytest.mark.parametrize(
    ("kind", "data", "reduce_uris", "identity"),
    [
        (0, "+447700900123", False, Identity("e164", "447700900123")),
        (0, "447700900123", False, Identity("e164", "447700900123")),
        (0, "+79161234567", False, Identity("e164", "79161234567")),
        (SIP_URI, "sip:+447700900123@ims.example", True, Identity("e164", "447700900123")),
        (SIP_URI, "tel:+447700900123", True, Identity("e164", "447700900123")),
        (SIP_URI, "sip:alice@IMS.example", True, Identity("sip", "alice")),
        (SIP_URI, "SIP:alice@IMS.example", False, Identity("sip", "sip:alice@ims.example")),
        (0, "tel:+447700900123", True, Identity("e164", "447700900123")),
    ],
)
def test_cc_016_identities_are_normalised(kind: int, data: str, reduce_uris: bool, identity: Identity) -> None:
    # CC-016: "E.164 normalisation: digits only, international, optional leading '+' stripped; SIP/TEL URI forms reduced
    # to user part when configured. | 2001 | "+447700900123", "sip:+447700900123@ims.example""
    request = initial(msisdn=None, extra=[subscription(kind, data)])
    assert charging(request, reduce_uris=reduce_uris).identities == (identity,)


@pytest.mark.parametrize("kind", [UPDATE, TERMINATION])
def test_identity_is_not_required_in_update_and_termination(kind: int) -> None:
    # CC-017: "identity in them is not required ... | 2001 | CCR-U without Subscription-Id"
    assert charging(gateway.ccr(kind, 1, "s1", msisdn=None)).identities == ()


def test_event_timestamp_is_the_event_time() -> None:
    # CC-020: "Event-Timestamp (if present) is the rating time of the event; absent -> receive time."
    assert charging(initial(event_time_s=1_772_481_600)).event_time_us == 1_772_481_600_000_000
    assert charging(initial()).event_time_us is None


def test_cc_022_service_parameter_info_of_unknown_type_is_5031() -> None:
    # CC-022: "Service-Parameter-Info of unknown type -> Failed-AVP = that AVP. | cmd 5031 | type 777"
    members = [(d.SERVICE_PARAMETER_TYPE, 777), (d.SERVICE_PARAMETER_VALUE, b"\x01")]
    error = refused(initial(extra=[(d.SERVICE_PARAMETER_INFO, members)]))
    assert error.result_code == 5031
    assert error.failed_avp == encode_avp(d.SERVICE_PARAMETER_INFO, members)


# §2 Session state machine: what the messages carry


def test_a_repeat_reads_as_the_same_request() -> None:
    # CC-040: "Duplicate key = (Session-Id, CC-Sub-Session-Id, CC-Request-Type, CC-Request-Number) ... with or without
    # T bit, over any peer connection."
    service = mscc(used=[units(total=MIB)], requested=[])
    original = charging(gateway.ccr(UPDATE, 1, "s1", service))
    repeat = charging(gateway.ccr(UPDATE, 1, "s1", service, retransmit=True, extra=[proxy_info("p2", b"\xff")]))
    assert repeat == original


def test_another_content_has_another_digest() -> None:
    # CC-043: "Same key, different content: answer from store, raise an alarm counter"
    one = gateway.ccr(UPDATE, 1, "s1", mscc(used=[units(total=MIB)], requested=[]))
    other = gateway.ccr(UPDATE, 1, "s1", mscc(used=[units(total=20 * MIB)], requested=[]))
    assert charging(one).digest != charging(other).digest
    assert len(charging(one).digest) == 4


def test_cc_044_the_answer_carries_the_identifiers_and_proxy_info_of_the_new_request() -> None:
    # CC-044: "Replayed answer carries the new Hop-by-Hop id, and the Proxy-Info of the *new* request."
    service = mscc(requested=[])
    proxies = [proxy_info("p1", b"\x00\xff\x80"), proxy_info("p2", b"ab"), proxy_info("p3", b"")]
    repeat = initial(service, hop_by_hop=77, end_to_end=99, extra=proxies, retransmit=True)
    answer = answered(repeat, outcome(grant()))
    assert (answer.message.hop_by_hop, answer.message.end_to_end) == (77, 99)
    assert answer.message.proxy_infos == proxies


def test_sub_sessions_are_refused_not_mixed() -> None:
    # CC-052, "sub-sessions are independent sessions under one Session-Id", is not built: a request that names one is
    # 5001, because its numbers would be taken for the main session's.
    answer = refusal(initial(extra=[(d.CC_SUB_SESSION_ID, 2)]))
    assert (answer.code, answer.failed) == (5001, [(d.CC_SUB_SESSION_ID, 2)])


@pytest.mark.parametrize(("kind", "number"), [(INITIAL, 0), (UPDATE, 4_294_967_295), (TERMINATION, 7), (EVENT, 3)])
def test_cc_053_the_answer_echoes_type_number_application_and_session(kind: int, number: int) -> None:
    # CC-053: "CCA echoes CC-Request-Type, CC-Request-Number, Auth-Application-Id, Session-Id (first)."
    data = gateway.ccr(kind, number, "gw1;1;2", action=0 if kind == EVENT else None)
    answer = answered(data, outcome())
    assert answer.keys[0] == d.SESSION_ID
    assert answer.get(d.SESSION_ID) == "gw1;1;2"
    assert answer.get(d.CC_REQUEST_TYPE) == kind
    assert answer.get(d.CC_REQUEST_NUMBER) == number
    assert answer.get(d.AUTH_APPLICATION_ID) == 4
    assert (answer.get(d.ORIGIN_HOST), answer.get(d.ORIGIN_REALM)) == ("ocs1.example.com", "example.com")
    assert d.DESTINATION_HOST not in answer.keys
    assert d.DESTINATION_REALM not in answer.keys


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (FLAG_REQUEST | FLAG_PROXIABLE, FLAG_PROXIABLE),
        (FLAG_REQUEST, 0),
        (FLAG_REQUEST | FLAG_PROXIABLE | FLAG_RETRANSMIT, FLAG_PROXIABLE),
    ],
)
def test_cc_053_the_header_of_the_answer_is_that_of_the_request(flags: int, expected: int) -> None:
    # DB-070: "Answer header: R=0, T=0, P copied from request, E only as in table 0, same command code, same application
    # id" - what a CCA echoes in its header.
    answer = answered(initial(flags=flags), outcome())
    assert answer.message.flags == expected
    assert (answer.message.command, answer.message.application) == (272, 4)


# §3 MSCC


def test_cc_060_mscc_without_multiple_services_indicator_is_processed_and_noted() -> None:
    # CC-060: "MSCC without MSI: process (field practice), log. | 2001 | CCR-I without MSI"
    data = initial(mscc(requested=[]), several=None)
    assert len(charging(data).services) == 1
    assert "mscc-without-msi" in read(data).notes
    assert "mscc-without-msi" not in read(initial(mscc(requested=[]))).notes


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("rg", [QuotaKey(10), QuotaKey(10), QuotaKey(None, (3,)), QuotaKey()]),
        ("rg+si", [QuotaKey(10, (1,)), QuotaKey(10, (2,)), QuotaKey(None, (3,)), QuotaKey()]),
    ],
)
def test_cc_061_the_quota_key_follows_the_setting(setting: str, expected: list[QuotaKey]) -> None:
    # CC-061: "Quota key: Service-Identifier(s) if present, else Rating-Group, else the session default ... 3GPP
    # gateways usually send both and expect quota per RG unless configured: make quota_key = rg or rg+si a peer setting.
    # | RG 10 + SI 1 and SI 2"
    data = initial(
        mscc(10, services=[1], requested=[]),
        mscc(10, services=[2], requested=[]),
        mscc(None, services=[3], requested=[]),
        mscc(None, requested=[]),
    )
    assert [service.key for service in charging(data, quota_key=setting).services] == expected


def test_cc_061_the_order_of_service_identifiers_does_not_make_another_key() -> None:
    # CC-061: "Quota key: Service-Identifier(s)"
    one = charging(initial(mscc(10, services=[2, 1], requested=[])), quota_key="rg+si")
    assert one.services[0].key == QuotaKey(10, (1, 2))


def test_cc_062_each_answer_group_repeats_the_keys_of_its_request() -> None:
    # CC-062: "Answer MSCC repeats the same RG/SI so that the client can match it; one answer MSCC per request MSCC that
    # asked for quota. | 3 MSCC"
    data = initial(
        mscc(10, services=[7, 5], requested=[]),
        mscc(20, requested=[]),
        mscc(None, services=[3], requested=[]),
    )
    answers = outcome(grant(rating_group=10), grant(rating_group=20), ServiceOutcome(key(None, 3)))
    services = answered(data, answers).services
    assert [(one.rating_group, one.services) for one in services] == [(10, (7, 5)), (20, ()), (None, (3,))]
    assert all(one.result_code == 2001 for one in services)


def test_cc_062_one_grant_for_two_groups_of_one_key_names_the_services_of_both() -> None:
    # CC-062 with CC-074 ("Same key in two MSCCs of one CCR: debit both, grant once"): the client finds both.
    data = initial(mscc(10, services=[1], requested=[]), mscc(10, services=[2], requested=[]))
    service = answered(data, outcome(grant(rating_group=10))).service
    assert (service.rating_group, service.services) == (10, (1, 2))


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ([], Units()),
        (units(total=MIB), Units(octets=MIB)),
        (units(time=60), Units(seconds=60)),
        (units(events=2), Units(events=2)),
        (units(input=1, output=2), Units(input_octets=1, output_octets=2)),
        (None, None),
    ],
)
def test_cc_065_requested_units_are_read_as_stated(requested: Any, expected: Units | None) -> None:
    # CC-065: "RSU with amounts: grant <= min(request, ...) | RSU 1 MiB" and CC-063: "RSU present (may be empty RSU{}) =
    # quota wanted. RSU absent = debit only"
    (service,) = charging(initial(mscc(requested=requested))).services
    assert service.requested == expected


def test_cc_067_one_instance_of_each_unit_type() -> None:
    # CC-067: "At most one instance of each unit type per GSU; unit type stays the same during the session. | decode"
    twice = [(d.CC_TIME, 1), (d.CC_TIME, 2)]
    error = refused(gateway.ccr(UPDATE, 1, "s1", mscc(100, used=[twice])))
    assert error.result_code == 5009
    chain = [(d.USED_SERVICE_UNIT, [(d.CC_TIME, 2)])]
    assert error.failed_avp == encode_avp(d.MULTIPLE_SERVICES_CREDIT_CONTROL, chain)
    (members,) = answered(initial(mscc(requested=[])), outcome(grant())).all(d.MULTIPLE_SERVICES_CREDIT_CONTROL)
    assert first(members, d.GRANTED_SERVICE_UNIT) == [(d.CC_TOTAL_OCTETS, 0x40, 10 * MIB)]


@pytest.mark.parametrize(
    ("requested", "granted"),
    [
        ([], {"total": 10 * MIB}),
        (units(total=MIB), {"total": 10 * MIB}),
        (units(input=1, output=1), {"total": 10 * MIB}),
        (units(output=1), {"output": 10 * MIB}),
        (units(input=1), {"input": 10 * MIB}),
    ],
)
def test_cc_068_grants_are_total_octets_unless_asked_otherwise(requested: Any, granted: dict[str, int]) -> None:
    # CC-068: "Grant CC-Total-Octets, not Input/Output, unless the peer asked otherwise"
    assert answered(initial(mscc(requested=requested)), outcome(grant())).service.granted == granted


@pytest.mark.parametrize(
    ("used", "octets"),
    [
        ([units(input=3 * MIB, output=7 * MIB)], [10 * MIB]),
        ([units(total=5, input=3, output=7)], [5]),
        ([units(total=MIB), units(total=2 * MIB)], [MIB, 2 * MIB]),
        ([units(output=7)], [7]),
        ([units(time=9)], [None]),
        ([units(total=0)], [0]),
    ],
)
def test_cc_069_volume_is_total_or_the_sum_of_directions(used: Any, octets: list[int | None]) -> None:
    # CC-069: "USU: all instances of an MSCC are debited. Volume = CC-Total-Octets if present, else Input+Output. Total
    # and in/out both present: use total; log if they differ. | in 3 MiB + out 7 MiB"
    data = gateway.ccr(UPDATE, 1, "s1", mscc(used=used))
    (service,) = charging(data).services
    assert [one.total_octets() for one in service.used] == octets
    differ = [one for one in service.used if one.octets == 5 and one.input_octets == 3]
    assert ("total-octets-differ" in read(data).notes) is bool(differ)


def test_cc_075_unknown_rating_group_is_5031_in_the_group_with_failed_avp_at_command_level() -> None:
    # CC-075: "Unknown Rating-Group. Failed-AVP required by 8506 §9.2: put it at cmd level (MSCC has no Failed-AVP slot
    # except *[AVP]). | MSCC 5031, cmd 2001 | RG 999"
    data = initial(mscc(100, requested=[]), mscc(999, requested=[]))
    unknown = ServiceOutcome(key(999), Result.RATING_FAILED, detail="rating_group")
    answer = answered(data, outcome(grant(), unknown))
    assert answer.code == 2001
    assert [one.result_code for one in answer.services] == [2001, 5031]
    # DB-049: "Failed-AVP may carry the chain of groups down to the offending AVP; do so".
    (members,) = answer.all(d.FAILED_AVP)
    assert members == [(d.MULTIPLE_SERVICES_CREDIT_CONTROL, 0x40, [(d.RATING_GROUP, 0x40, 999)])]
    assert answer.failed == [(d.RATING_GROUP, 999)]


def test_cc_075_a_group_without_rating_group_points_at_what_it_has() -> None:
    # CC-075, for a key that is not a Rating-Group.
    wrong = ServiceOutcome(key(None, 3), Result.RATING_FAILED, detail="rating_group")
    assert answered(initial(mscc(None, services=[3], requested=[])), outcome(wrong)).failed == [
        (d.SERVICE_IDENTIFIER, 3)
    ]
    none = ServiceOutcome(key(None), Result.RATING_FAILED, detail="rating_group")
    assert answered(initial(mscc(None, requested=[])), outcome(none)).failed == [(d.RATING_GROUP, 0)]


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (Result.SERVICE_DENIED, 4010),
        (Result.AUTHORIZATION_REJECTED, 5003),
        (Result.CREDIT_LIMIT_REACHED, 4012),
        (Result.NOT_APPLICABLE, 4011),
        (Result.RATING_FAILED, 5031),
        (Result.INVALID_VALUE, 5004),
        (Result.UNABLE_TO_COMPLY, 5012),
    ],
)
def test_cc_080_command_stays_2001_when_every_group_failed(result: Result, code: int) -> None:
    # CC-080: "Command level stays 2001 when at least the session is valid, even if *every* MSCC failed ... | 2001 |
    # 2 RGs both 4012"
    data = initial(mscc(10, requested=[]), mscc(20, requested=[]))
    failed = outcome(ServiceOutcome(key(10), result), ServiceOutcome(key(20), result))
    answer = answered(data, failed)
    assert answer.code == 2001
    assert [one.result_code for one in answer.services] == [code, code]
    assert [one.granted for one in answer.services] == [None, None]


@pytest.mark.parametrize(
    ("results", "command"),
    [
        ((Result.CREDIT_LIMIT_REACHED, Result.SERVICE_DENIED), 4012),
        ((Result.SERVICE_DENIED, Result.CREDIT_LIMIT_REACHED), 4010),
        ((Result.CREDIT_LIMIT_REACHED, Result.SUCCESS), 2001),
        ((Result.CREDIT_LIMIT_REACHED, Result.NOT_APPLICABLE), 2001),
    ],
)
def test_cc_080_setting_first_raises_the_first_code(results: tuple[Result, Result], command: int) -> None:
    # CC-080: "Setting cmd_code_when_all_mscc_fail = 2001 or first"
    data = initial(mscc(10, requested=[]), mscc(20, requested=[]))
    failed = outcome(*(ServiceOutcome(key(rg), result) for rg, result in zip((10, 20), results, strict=True)))
    assert answered(data, failed, cmd_code_when_all_mscc_fail="first").code == command


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (Result.SERVICE_DENIED, 4010),
        (Result.NOT_APPLICABLE, 4011),
        (Result.CREDIT_LIMIT_REACHED, 4012),
        (Result.UNKNOWN_SESSION, 5002),
        (Result.AUTHORIZATION_REJECTED, 5003),
        (Result.UNABLE_TO_COMPLY, 5012),
        (Result.TOO_BUSY, 5012),
        (Result.USER_UNKNOWN, 5030),
        (Result.CONTEXT_UNSUPPORTED, 5031),
        (Result.RATING_FAILED, 5031),
    ],
)
def test_cc_080_codes_of_the_command(result: Result, code: int) -> None:
    # §14 "Where each code goes", column cmd; CC-080: "a cmd code other than success overrides all MSCC codes"
    assert answered(gateway.ccr(UPDATE, 1, "s1"), outcome(result=result)).code == code


def test_initial_without_groups_asks_for_nothing() -> None:
    # CC-082: "CCR-I without MSCC and without RSU (Gy "session first, quota later"): open session, no reservation. |
    # 2001, no GSU"
    assert charging(initial()).services == ()
    answer = answered(initial(), outcome())
    assert (answer.code, answer.services) == (2001, [])
    assert d.GRANTED_SERVICE_UNIT not in answer.keys


# §4, §5 Grant controls and final units


def test_validity_time_stands_in_the_group() -> None:
    # CC-090: "Validity-Time (448, s) | Send on every grant"
    answer = answered(initial(mscc(requested=[])), outcome(grant(validity_s=3600)))
    assert answer.service.validity_s == 3600
    assert d.VALIDITY_TIME not in answer.keys


@pytest.mark.parametrize(
    ("granted", "threshold", "sent"),
    [
        (10 * MIB, MIB, MIB),
        (2**40, 2**33, 4_294_967_295),
        (MIB, MIB, None),
        (MIB, None, None),
    ],
)
def test_cc_091_volume_quota_threshold(granted: int, threshold: int | None, sent: int | None) -> None:
    # CC-091: "Only with a volume GSU; must be < grant; U32 so max 4,294,967,295 even though quotas are U64. | grant 10
    # MiB -> VQT 1 MiB"
    answer = answered(initial(mscc(requested=[])), outcome(grant(granted, threshold=threshold)))
    assert answer.service.volume_threshold == sent
    assert (answer.service.time_threshold, answer.service.unit_threshold) == (None, None)


@pytest.mark.parametrize(("unit", "name"), [(UnitKind.SECONDS, "time"), (UnitKind.EVENTS, "unit")])
def test_cc_092_time_and_unit_quota_thresholds(unit: UnitKind, name: str) -> None:
    # CC-092: "Time-Quota-Threshold (868, s), Unit-Quota-Threshold (1226) | same for time / service-specific units"
    answer = answered(initial(mscc(requested=[])), outcome(grant(60, unit=unit, threshold=6)))
    assert answer.service.granted == {{"time": "time", "unit": "events"}[name]: 60}
    assert getattr(answer.service, f"{name}_threshold") == 6
    assert answer.service.volume_threshold is None


def final(action: FinalAction, **fields: Any) -> ServiceOutcome:
    """A last grant."""
    return grant(final=FinalUnit(action, **fields))


def test_cc_105_final_unit_indication_stands_in_the_group_of_a_3gpp_client() -> None:
    # CC-105: "include Final-Unit-Indication in the same MSCC (3gpp) or at cmd level (rfc)."
    answer = answered(initial(mscc(requested=[])), outcome(final(FinalAction.TERMINATE)))
    assert answer.service.final is not None
    assert d.FINAL_UNIT_INDICATION not in answer.keys


def test_cc_105_final_unit_indication_stands_at_command_level_of_an_rfc_client() -> None:
    # CC-105, as above; §0: "answer in the shape of the request".
    data = initial(context=RFC, extra=[(d.REQUESTED_SERVICE_UNIT, [])])
    last = ServiceOutcome(
        QuotaKey(),
        unit=UnitKind.SECONDS,
        granted=30,
        validity_s=60,
        threshold=3,
        final=FinalUnit(FinalAction.TERMINATE),
        in_group=False,
    )
    answer = answered(data, outcome(last), send_remaining_balance=True)
    units_there = answer.command_units
    assert (answer.code, answer.services) == (2001, [])
    assert units_there.granted == {"time": 30}
    assert units_there.final is not None
    assert (units_there.final.action, units_there.validity_s) == (0, 60)
    # CC-180: "never send in rfc profile" what belongs to vendor 10415.
    assert [avp for avp in answer.keys if avp >> 32] == []


@pytest.mark.parametrize(
    ("indication", "golden"),
    [
        # CC-106: "FUI TERMINATE(0): group contains only Final-Unit-Action. | golden bytes" (avps.md §6)
        (
            FinalUnit(FinalAction.TERMINATE, 2, "http://topup.example.net/", ("permit",), ("f",)),
            "000001ae40000014000001c14000000c00000000",
        ),
        # CC-107: vector of avps.md §6
        (
            FinalUnit(FinalAction.REDIRECT, 2, "http://topup.example.net/"),
            (
                "000001ae4000004c000001c14000000c00000001000001b240000038000001b14000000c00000002000001b340000021"
                "687474703a2f2f746f7075702e6578616d706c652e6e65742f000000"
            ),
        ),
    ],
)
def test_cc_106_final_unit_indication_golden_bytes(indication: FinalUnit, golden: str) -> None:
    answer = answered(initial(mscc(requested=[])), outcome(grant(final=indication)))
    assert bytes.fromhex(golden) in answer.data


def test_cc_107_redirect_carries_its_server() -> None:
    # CC-107: "FUI REDIRECT(1): Redirect-Server {Redirect-Address-Type 0 IPv4, 1 IPv6, 2 URL, 3 SIP URI;
    # Redirect-Server-Address} must be present; Restriction-Filter-Rule/Filter-Id optional. | decode"
    for kind, address in ((0, "192.0.2.1"), (1, "2001:db8::1"), (2, "http://topup.example.net/"), (3, "sip:t@x")):
        indication = final(FinalAction.REDIRECT, redirect_type=kind, redirect_address=address, filter_ids=("dns",))
        sent = answered(initial(mscc(requested=[])), outcome(indication)).service.final
        assert sent == (1, kind, address, (), ("dns",))


def test_cc_108_restrict_access_carries_rules_or_ids() -> None:
    # CC-108: "FUI RESTRICT_ACCESS(2): Restriction-Filter-Rule(s) or Filter-Id(s) should be present; configurable:
    # rules, ids, both or none. | decode"
    rule = "permit out ip from 192.0.2.0/24 to any"
    for rules, ids in (((rule,), ()), ((), ("topup-only",)), ((rule, rule), ("a", "b")), ((), ())):
        indication = final(FinalAction.RESTRICT, filter_rules=rules, filter_ids=ids)
        sent = answered(initial(mscc(requested=[])), outcome(indication)).service.final
        assert sent == (2, None, None, rules, ids)


def test_immediate_action_is_2001_or_by_setting_4012() -> None:
    # CC-113: "policy redirect or restrict -> MSCC with FUI + Validity-Time and **no** GSU ... MSCC Result-Code 2001 in
    # that case (?; some gateways expect 4012 + FUI: peer setting)."
    now = ServiceOutcome(key(), validity_s=300, final=FinalUnit(FinalAction.RESTRICT, filter_ids=("topup-only",)))
    data = initial(mscc(requested=[]))
    plain = answered(data, outcome(now)).service
    assert (plain.result_code, plain.granted, plain.validity_s) == (2001, None, 300)
    denied = answered(data, outcome(now), final_with_denial=True).service
    assert (denied.result_code, denied.granted, denied.validity_s) == (4012, None, 300)
    assert plain.final == denied.final == (2, None, None, (), ("topup-only",))


@pytest.mark.parametrize(
    ("result", "setting", "sent"),
    [
        (Result.CREDIT_LIMIT_REACHED, False, False),
        (Result.SERVICE_DENIED, False, False),
        (Result.CREDIT_LIMIT_REACHED, True, True),
        (Result.SERVICE_DENIED, True, True),
        (Result.NOT_APPLICABLE, False, False),
        (Result.NOT_APPLICABLE, True, False),
    ],
)
def test_cc_117_no_final_unit_indication_beside_a_denial(result: Result, setting: bool, sent: bool) -> None:
    # CC-117: "FUI must not be sent with 4010/4012 unless peer setting says so; never with 4011."
    denied = ServiceOutcome(key(), result, final=FinalUnit(FinalAction.TERMINATE))
    service = answered(initial(mscc(requested=[])), outcome(denied), final_with_denial=setting).service
    assert (service.final is not None) is sent


# §7 Reporting-Reason


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (0, Reason.THRESHOLD),
        (1, Reason.QUOTA_HOLDING_TIME),
        (2, Reason.FINAL),
        (3, Reason.QUOTA_EXHAUSTED),
        (4, Reason.VALIDITY_TIME),
        (5, Reason.OTHER_QUOTA_TYPE),
        (6, Reason.RATING_CONDITION_CHANGE),
        (7, Reason.FORCED_REAUTHORISATION),
        (8, Reason.POOL_EXHAUSTED),
        (77, Reason.UNKNOWN),
    ],
)
def test_reporting_reason_is_read_at_either_level(number: int, reason: Reason) -> None:
    # §7: "Accept it at either level"; "unknown value | ... do not reject usage because of an unknown reason"
    inside = charging(gateway.ccr(UPDATE, 1, "s1", mscc(used=[units(total=1, reason=number)])))
    beside = charging(gateway.ccr(UPDATE, 1, "s1", mscc(used=[units(total=1)], reason=number)))
    assert [one.services[0].reason for one in (inside, beside)] == [reason, reason]


def test_reporting_reason_that_decides_wins() -> None:
    # §7: "FINAL | ... none (even if RSU by mistake)": found also behind another reason.
    data = gateway.ccr(UPDATE, 1, "s1", mscc(used=[units(total=1, reason=3), units(total=1, reason=2)], reason=0))
    assert charging(data).services[0].reason is Reason.FINAL


# §8 Events


def test_cc_142_a_failed_event_has_its_code_at_both_levels() -> None:
    # CC-142: "Level of the failure code for IEC in 3gpp: set **both** cmd and MSCC to 4012"
    data = event(mscc(None, requested=units(events=1)))
    service = ServiceOutcome(key(None), Result.CREDIT_LIMIT_REACHED)
    for failed in (
        outcome(service, result=Result.CREDIT_LIMIT_REACHED),
        outcome(service),
        outcome(result=Result.CREDIT_LIMIT_REACHED),
    ):
        answer = answered(data, failed)
        assert (answer.code, answer.service.result_code, answer.service.granted) == (4012, 4012, None)


def test_units_of_an_event_come_back_as_granted() -> None:
    # CC-140: "DIRECT_DEBITING(0) ... GSU = units debited (MSCC in 3gpp)."
    data = event(mscc(None, requested=units(events=1)))
    request = charging(data)
    assert (request.kind, request.action) == (RequestKind.EVENT, EventAction.DIRECT_DEBIT)
    answer = answered(data, outcome(grant(1, None, unit=UnitKind.EVENTS)))
    assert (answer.code, answer.service.result_code, answer.service.granted) == (2001, 2001, {"events": 1})


def test_check_balance_result() -> None:
    # CC-147: "Check-Balance-Result 0 ENOUGH_CREDIT / 1 NO_CREDIT. Result-Code is 2001 in both cases."
    data = event(mscc(None, requested=units(events=1)), action=2)
    for enough, value in ((True, 0), (False, 1)):
        answer = answered(data, outcome(ServiceOutcome(key(None)), enough_credit=enough))
        assert (answer.code, answer.get(d.CHECK_BALANCE_RESULT)) == (2001, value)


def test_a_price_enquiry_is_answered_with_cost_information() -> None:
    # CC-148: "Cost-Information {Unit-Value, Currency-Code, Cost-Unit?}." S16: "Cost-Information{Unit-Value(95,-2),
    # Currency-Code 978}"
    data = event(context="32260@3gpp.org", action=PRICE_ENQUIRY, extra=[(d.REQUESTED_SERVICE_UNIT, units(time=120))])
    answer = answered(data, outcome(ServiceOutcome(key(None), in_group=False), cost_micros=950_000))
    assert (answer.code, answer.cost) == (2001, (95, -2, 978))


@pytest.mark.parametrize(
    ("stated", "asked", "recipients", "events", "messages"),
    [
        (3, 1, 2, 3, 3),
        (None, 1, 3, 1, None),
        (None, None, 3, None, 3),
        (None, None, 0, None, None),
        (3, None, 0, 3, 3),
    ],
)
def test_cc_193_number_of_messages(
    stated: int | None, asked: int | None, recipients: int, events: int | None, messages: int | None
) -> None:
    # CC-193: "SMS to n recipients: units = Number-Of-Messages-Sent if present, else RSU units, else number of
    # Recipient-Info, else 1 | debit n | 3 recipients"
    requested = [] if asked is None else units(events=asked)
    numbers = [f"44770090000{number}" for number in range(recipients)]
    data = event(mscc(None, requested=requested), extra=[sms_information(stated, numbers)])
    request = charging(data)
    assert request.services[0].requested == Units(events=events)
    assert request.messages == messages


# §10 Information AVPs


@pytest.mark.parametrize("kind", [UPDATE, TERMINATION])
def test_cc_174_cost_information_by_setting(kind: int) -> None:
    # CC-174: "Cost-Information (423) optional: on U = accumulated session cost ... on T ... = total cost" S01 step 3:
    # "Cost-Information (if on) = (130,-2)"
    data = gateway.ccr(kind, 2, "s1")
    assert answered(data, outcome(cost_micros=1_300_000), send_cost_information=True).cost == (130, -2, 978)
    assert answered(data, outcome(cost_micros=1_300_000)).cost is None


def test_cc_176_remaining_balance_by_setting() -> None:
    # CC-176: "Remaining-Balance (2021) {Unit-Value, Currency-Code} at cmd level, optional; report B" and its vector in
    # avps.md §6: 8.70 EUR
    data = gateway.ccr(TERMINATION, 2, "s1")
    golden = (
        "000007e5c000003c000028af000001bd40000024000001bf400000100000000000000366000001ad4000000cfffffffe"
        "000001a94000000c000003d2"
    )
    on = answered(data, outcome(balance_micros=8_700_000), send_remaining_balance=True)
    assert bytes.fromhex(golden) in on.data
    assert answered(data, outcome(balance_micros=8_700_000)).remaining_balance is None


def test_cc_180_an_rfc_client_gets_no_vendor_avp() -> None:
    # CC-180: "All of these are vendor 10415 with M=1 ... never send in rfc profile. | profile rfc CCA has no vendor
    # AVP"
    data = initial(mscc(requested=[]), context=RFC)
    full = grant(threshold=MIB, refund_token=b"token")
    answer = answered(data, outcome(full, balance_micros=1), send_remaining_balance=True)
    (members,) = answer.all(d.MULTIPLE_SERVICES_CREDIT_CONTROL)
    assert [avp for avp in (*answer.keys, *(member[0] for member in members)) if avp >> 32] == []


# Errors of form in general


def test_db_020_the_first_check_that_fails_is_answered_and_all_errors_are_kept() -> None:
    # DB-020: "AVP structure, grammar, values. Only the **first** error found is reported (§7). | single Result-Code |
    # CCR with two defects -> one Result-Code"
    bad_length = encode_avp(d.CC_TIME, 1)[:4] + b"\x40\x00\x00\x0a" + b"\x00\x00\x00\x00"
    data = initial(context="99999@3gpp.org", without=[d.ORIGIN_REALM], extra=[bad_length])
    error = refused(data)
    assert error.result_code == 5014
    assert sorted(one.result_code for one in error.errors) == [5005, 5014, 5031]
    assert refused(initial(context="99999@3gpp.org", without=[d.ORIGIN_REALM])).result_code == 5005
    answer = refusal(data)
    assert (len(answer.all(d.RESULT_CODE)), len(answer.all(d.FAILED_AVP))) == (1, 1)


def test_db_045_a_wrong_length_is_5014_and_not_also_missing() -> None:
    # DB-045: "Fixed-size types must have exact length ... otherwise 5014. | CC-Request-Number with 8 octets"
    wrong = bytes.fromhex("0000019f40000010 0000000000000000")
    error = refused(initial(without=[d.CC_REQUEST_NUMBER], extra=[wrong]))
    assert [one.result_code for one in error.errors] == [5014]


@pytest.mark.parametrize("twice", [(d.CC_REQUEST_NUMBER, 9), (d.SERVICE_CONTEXT_ID, "32251@3gpp.org")])
def test_db_053_a_second_instance_is_5009(twice: tuple[int, Any]) -> None:
    # DB-053: "More instances than the grammar allows -> 5009, Failed-AVP = first instance beyond the maximum. | two
    # CC-Request-Number"
    answer = refusal(initial(extra=[twice]))
    assert (answer.code, answer.failed) == (5009, [twice])


def test_db_056_invalid_utf_8_is_5004() -> None:
    # DB-056: "UTF8String must be valid UTF-8 -> else 5004; never crash, never log raw. | Session-Id = FF FE"
    wrong = bytes.fromhex("000001074000000afffe0000")
    answer = refusal(initial(without=[d.SESSION_ID], extra=[wrong]))
    assert answer.code == 5004
    assert d.SESSION_ID not in answer.keys


@pytest.mark.parametrize(
    ("broken", "flags"),
    [
        # diameter-base.md §0: "E=1 with the §7.2 grammar is allowed when the command's own answer grammar cannot be
        # filled in (§7.1.5), e.g. a CCR so broken that CC-Request-Type/Number cannot be echoed."
        (d.CC_REQUEST_TYPE, FLAG_PROXIABLE | FLAG_ERROR),
        (d.CC_REQUEST_NUMBER, FLAG_PROXIABLE | FLAG_ERROR),
        (d.SESSION_ID, FLAG_PROXIABLE | FLAG_ERROR),
        (d.SERVICE_CONTEXT_ID, FLAG_PROXIABLE),
    ],
)
def test_db_075_error_answers_give_back_what_was_decoded(broken: int, flags: int) -> None:
    # DB-075: "Error answers ... Session-Id if decodable, Origin-Host, Origin-Realm, Result-Code, optional ...
    # Failed-AVP, Proxy-Info."
    proxy = proxy_info("p1", b"\x01\x02\x03")
    answer = refusal(initial(without=[broken], extra=[proxy]))
    assert answer.message.flags == flags
    assert answer.message.proxy_infos == [proxy]
    expected = {d.SESSION_ID, d.CC_REQUEST_TYPE, d.CC_REQUEST_NUMBER} - {broken}
    assert expected <= set(answer.keys)
    assert broken not in answer.keys
