"""What real gateways send: each peculiarity is accepted and means what the gateway meant."""

from __future__ import annotations

from ocs.charging.requests import FinalAction, FinalUnit, Identity, QuotaKey, Reason, ServiceOutcome, UnitKind, Units
from protocols.diameter import dictionary as d
from tests.support.gy_client import (
    E164,
    IMSI,
    INITIAL,
    MIB,
    TERMINATION,
    UPDATE,
    Requests,
    mscc,
    subscription,
    units,
)
from tests.support.gy_edge import answered, charging, key, outcome, read

open5gs = Requests("smf.localdomain", "localdomain", "localdomain")
kamailio = Requests("scscf.ims.example", "ims.example", "example.com")
relayed = Requests("gw7.example.net", "example.net", "example.com")


def open5gs_update() -> bytes:
    """A CCR-U as the SMF of Open5GS builds it."""
    used = units(reason=4, time=1_772_481_600, input=3 * MIB, output=7 * MIB)
    return open5gs.ccr(
        UPDATE,
        1,
        "smf;1;2;3",
        mscc(None, requested=[], used=[used]),
        action=0,
        several=0,
        msisdn=None,
        extra=[subscription(IMSI, "001010000000001"), subscription(E164, "447700900123")],
    )


def test_open5gs_mscc_without_rating_group_is_the_sessions_default_key() -> None:
    assert charging(open5gs_update()).services[0].key == QuotaKey()


def test_open5gs_answer_to_an_mscc_without_rating_group_has_none() -> None:
    answer = answered(open5gs_update(), outcome(ServiceOutcome(key(None), unit=UnitKind.OCTETS, granted=MIB)))
    assert (answer.service.rating_group, answer.service.services) == (None, ())
    assert answer.service.granted == {"total": MIB}


def test_open5gs_multiple_services_indicator_0_beside_an_mscc_is_processed() -> None:
    data = open5gs.ccr(INITIAL, 0, "s", mscc(None, requested=[]), several=0)
    assert len(charging(data).services) == 1
    assert read(data).multiple_services is False
    assert "mscc-without-msi" in read(data).notes


def test_open5gs_requested_action_0_in_session_requests_is_ignored() -> None:
    assert charging(open5gs_update()).action is None


def test_open5gs_used_units_are_the_sum_of_directions_and_the_epoch_time_is_kept_apart() -> None:
    (service,) = charging(open5gs_update()).services
    (used,) = service.used
    assert used.total_octets() == 10 * MIB
    assert used.of(UnitKind.OCTETS) == 10 * MIB
    assert used == Units(input_octets=3 * MIB, output_octets=7 * MIB, seconds=1_772_481_600)


def test_open5gs_reporting_reason_inside_the_used_units_is_found() -> None:
    assert charging(open5gs_update()).services[0].reason is Reason.VALIDITY_TIME


def test_open5gs_imsi_before_e164_keeps_the_operators_order() -> None:
    expected = (Identity("e164", "447700900123"), Identity("imsi", "001010000000001"))
    assert charging(open5gs_update()).identities == expected


def test_destination_host_only_from_the_first_update() -> None:
    assert read(open5gs_update()).destination_host is None
    later = Requests("smf.localdomain", "localdomain", "localdomain", "ocs1.example.com")
    assert read(later.ccr(UPDATE, 2, "s")).destination_host == "ocs1.example.com"


def kamailio_initial() -> bytes:
    """A CCR-I as ims_charging of Kamailio builds it."""
    vsai = (d.VENDOR_SPECIFIC_APPLICATION_ID, [(d.VENDOR_ID, 10415), (d.AUTH_APPLICATION_ID, 4)])
    return kamailio.ccr(
        INITIAL,
        0,
        "scscf;9",
        mscc(100, services=[1000], requested=units(time=30)),
        mscc(200, requested=units(time=30)),
        context="ext.001.001.8.32260@3gpp.org",
        msisdn="+79161234567",
        without=[d.AUTH_APPLICATION_ID],
        extra=[vsai],
    )


def test_kamailio_application_id_only_inside_vendor_specific_application_id() -> None:
    assert charging(kamailio_initial()).service_context == "32260@3gpp.org"
    assert answered(kamailio_initial(), outcome()).get(d.AUTH_APPLICATION_ID) == 4


def test_kamailio_plus_before_the_number() -> None:
    assert charging(kamailio_initial()).identities == (Identity("e164", "79161234567"),)


def test_kamailio_each_mscc_of_the_answer_carries_a_result_code() -> None:
    granted = ServiceOutcome(key(100), unit=UnitKind.SECONDS, granted=30, validity_s=60)
    acts_now = ServiceOutcome(key(200), validity_s=60, final=FinalUnit(FinalAction.RESTRICT, filter_ids=("x",)))
    answer = answered(kamailio_initial(), outcome(granted, acts_now))
    assert [one.result_code for one in answer.services] == [2001, 2001]
    assert answer.services[0].services == (1000,)


def test_kamailio_termination_after_a_denied_initial_is_of_right_form() -> None:
    assert charging(kamailio.ccr(TERMINATION, 1, "scscf;9", context="32260@3gpp.org")).services == ()


def test_a_relay_adds_route_records_and_the_client_stays_the_origin() -> None:
    data = relayed.ccr(
        INITIAL, 0, "s", extra=[(d.ROUTE_RECORD, "gw7.example.net"), (d.ROUTE_RECORD, "dra.example.net")]
    )
    assert charging(data).origin_host == "gw7.example.net"
    # DB-074: "Route-Record AVPs are not copied into answers"
    assert d.ROUTE_RECORD not in answered(data, outcome()).keys


def test_3gpp_avps_with_m_bit_are_known() -> None:
    information = (d.SERVICE_INFORMATION, [(d.PS_INFORMATION, [(d.TGPP_RAT_TYPE, 0x40, b"\x06")])])
    assert read(relayed.ccr(INITIAL, 0, "s", extra=[information])).form == "3gpp"
