"""docs/requirements/credit-control.md §11: Service-Information as a rating context."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.diameter import dictionary as d
from protocols.diameter.avp import decode_message
from protocols.diameter.service_information import rating_context, user_location
from tests.support.codecs import encode, octets, ps_information

Pairs = list[tuple[int, Any]]


def context_of(*members: tuple[int, Any]) -> dict[str, object]:
    """Send members of Service-Information through the codec and read the context from what comes out."""
    message = decode_message(encode([(d.SERVICE_INFORMATION, list(members))]))
    assert message.errors == []
    return rating_context(message.avps)


def test_cc_190_packet_switched() -> None:
    # CC-190: Extract the AVPs above into a flat "rating context"; unknown members ignored: full PS-Information.
    # 32251: 3GPP-Charging-Id, Called-Station-Id (APN), 3GPP-RAT-Type, 3GPP-User-Location-Info, 3GPP-SGSN-MCC-MNC,
    # 3GPP-IMSI-MCC-MNC, 3GPP-MS-TimeZone, 3GPP-Charging-Characteristics, QoS-Information, Charging-Rule-Base-Name,
    # PDP-Address, SGSN-/GGSN-Address, User-Equipment-Info, 3GPP-Session-Stop-Indicator, Serving-Node-Type.
    equipment = [(d.USER_EQUIPMENT_INFO_TYPE, 0), (d.USER_EQUIPMENT_INFO_VALUE, b"3520990012345601")]
    members: Pairs = [
        *ps_information(),
        (d.TGPP_IMSI_MCC_MNC, "99970"),
        (d.TGPP_CHARGING_CHARACTERISTICS, "0800"),
        (d.QOS_INFORMATION, [(d.QOS_CLASS_IDENTIFIER, 9), (d.ALLOCATION_RETENTION_PRIORITY, [(d.PRIORITY_LEVEL, 8)])]),
        (d.CHARGING_RULE_BASE_NAME, "default"),
        (d.USER_EQUIPMENT_INFO, equipment),
        (d.TGPP_SESSION_STOP_INDICATOR, b"\xff"),
        (d.SERVING_NODE_TYPE, 2),
        (d.LOW_PRIORITY_INDICATOR, 1),
    ]
    assert context_of((d.PS_INFORMATION, members)) == {
        "charging_id": 1,
        "called_station_id": "internet",
        "rat_type": 6,
        "user_location": {
            "type": 130, "mcc": "999", "mnc": "70", "tac": 1, "ecgi_mcc": "999", "ecgi_mnc": "70", "eci": 256
        },
        "sgsn_mcc_mnc": "99970",
        "imsi_mcc_mnc": "99970",
        "ms_timezone": {"offset_s": 7200, "summer_time_s": 0},
        "charging_characteristics": "0800",
        "qos_class": 9,
        "priority_level": 8,
        "charging_rule_base_name": "default",
        "pdp_type": 0,
        "pdp_addresses": ["10.45.0.2"],
        "sgsn_addresses": ["192.0.2.4"],
        "ggsn_addresses": ["2001:db8::4"],
        "selection_mode": "0",
        "user_equipment": {"type": 0, "value": "3520990012345601"},
        "session_stop_indicator": "ff",
        "serving_node_type": 2,
    }  # fmt: skip


def test_cc_190_charging_id_of_any_length() -> None:
    # avps.md, Conflicts: 3GPP-Charging-Id: accept any length, if 4 octets expose as int.
    assert context_of((d.PS_INFORMATION, [(d.TGPP_CHARGING_ID, 0xFFFFFFFF)]))["charging_id"] == 0xFFFFFFFF
    assert context_of((d.PS_INFORMATION, [(d.TGPP_CHARGING_ID, b"0000000a")]))["charging_id"] == b"0000000a"


def test_cc_190_ims() -> None:
    # CC-190: 32260: Event-Type(SIP-Method), Role-Of-Node, Node-Functionality, Calling-Party-Address,
    # Called-Party-Address, Requested-Party-Address, Called-Asserted-Identity, Number-Portability-Routing-Information,
    # Carrier-Select-Routing-Information, Time-Stamps, SDP-Media-Component (media type), IMS-Charging-Identifier,
    # Access-Network-Information, IMS-Visited-Network-Identifier, Alternate-Charged-Party-Address, Cause-Code.
    members: Pairs = [
        (d.EVENT_TYPE, [(d.SIP_METHOD, "INVITE")]),
        (d.ROLE_OF_NODE, 0),
        (d.NODE_FUNCTIONALITY, 6),
        (d.CALLING_PARTY_ADDRESS, "sip:alice@example.com"),
        (d.CALLING_PARTY_ADDRESS, "tel:+447700900001"),
        (d.CALLED_PARTY_ADDRESS, "tel:+447700900123"),
        (d.REQUESTED_PARTY_ADDRESS, "tel:900123"),
        (d.CALLED_ASSERTED_IDENTITY, "sip:bob@example.com"),
        (d.NUMBER_PORTABILITY_ROUTING_INFORMATION, "D012"),
        (d.CARRIER_SELECT_ROUTING_INFORMATION, "1010"),
        (d.TIME_STAMPS, [(d.SIP_REQUEST_TIMESTAMP, 1_772_481_600), (d.SIP_RESPONSE_TIMESTAMP, 1_772_481_602)]),
        (d.SDP_MEDIA_COMPONENT, [(d.SDP_MEDIA_NAME, "m=audio 49170 RTP/AVP 0")]),
        (d.SDP_MEDIA_COMPONENT, [(d.SDP_MEDIA_NAME, "video 51372 RTP/AVP 31")]),
        (d.IMS_CHARGING_IDENTIFIER, "icid-1"),
        (d.ACCESS_NETWORK_INFORMATION, b"3GPP-E-UTRAN-FDD"),
        (d.IMS_VISITED_NETWORK_IDENTIFIER, "visited.example.net"),
        (d.ALTERNATE_CHARGED_PARTY_ADDRESS, "sip:payer@example.com"),
        (d.CAUSE_CODE, -1),
    ]
    assert context_of((d.IMS_INFORMATION, members)) == {
        "sip_method": "INVITE",
        "role_of_node": 0,
        "node_functionality": 6,
        "calling_party": ["sip:alice@example.com", "tel:+447700900001"],
        "called_party": "tel:+447700900123",
        "requested_party": ["tel:900123"],
        "called_asserted_identity": ["sip:bob@example.com"],
        "number_portability_routing_information": "D012",
        "carrier_select_routing_information": "1010",
        "sip_request_time_s": 1_772_481_600,
        "sip_response_time_s": 1_772_481_602,
        "media_types": ["audio", "video"],
        "ims_charging_identifier": "icid-1",
        "access_network_information": ["3GPP-E-UTRAN-FDD"],
        "ims_visited_network_identifier": "visited.example.net",
        "alternate_charged_party": "sip:payer@example.com",
        "cause_code": -1,
    }


def test_cc_190_sms() -> None:
    # CC-190: 32274: SM-Message-Type, SMS-Node, Number-Of-Messages-Sent, Originator-Received-Address,
    # Recipient-Info/Recipient-Address (Address-Type, Address-Data), SMSC-Address, Data-Coding-Scheme, SM-Service-Type;
    # PS-Information for location.
    def address(number: str) -> Pairs:
        return [(d.ADDRESS_TYPE, 1), (d.ADDRESS_DATA, number)]

    members: Pairs = [
        (d.SM_MESSAGE_TYPE, 0),
        (d.SMS_NODE, 3),
        (d.NUMBER_OF_MESSAGES_SENT, 2),
        (d.ORIGINATOR_RECEIVED_ADDRESS, address("447700900001")),
        (d.RECIPIENT_INFO, [(d.RECIPIENT_ADDRESS, address("447700900002"))]),
        (d.RECIPIENT_INFO, [(d.RECIPIENT_RECEIVED_ADDRESS, address("900003"))]),
        (d.SMSC_ADDRESS, (8, "447700900000")),
        (d.DATA_CODING_SCHEME, 0),
        (d.SM_SERVICE_TYPE, 1),
    ]
    place: Pairs = [(d.TGPP_SGSN_MCC_MNC, "23415")]
    assert context_of((d.SMS_INFORMATION, members), (d.PS_INFORMATION, place)) == {
        "sm_message_type": 0,
        "sms_node": 3,
        "number_of_messages": 2,
        "originator": "447700900001",
        "originator_type": 1,
        "recipients": ["447700900002", "900003"],
        "smsc_address": "447700900000",
        "data_coding_scheme": 0,
        "sm_service_type": 1,
        "sgsn_mcc_mnc": "23415",
    }


def test_cc_190_mms() -> None:
    # CC-190: 32270: Originator-Address, Recipient-Address*, Message-Size, Message-Type, Message-Class, Priority,
    # MM-Content-Type.
    members: Pairs = [
        (d.ORIGINATOR_ADDRESS, [(d.ADDRESS_TYPE, 0), (d.ADDRESS_DATA, "alice@example.com")]),
        (d.RECIPIENT_ADDRESS, [(d.ADDRESS_TYPE, 1), (d.ADDRESS_DATA, "447700900002")]),
        (d.RECIPIENT_ADDRESS, [(d.ADDRESS_TYPE, 4), (d.ADDRESS_DATA, "70123")]),
        (d.MESSAGE_SIZE, 30_000),
        (d.MESSAGE_TYPE, 1),
        (d.MESSAGE_CLASS, [(d.CLASS_IDENTIFIER, 0)]),
        (d.PRIORITY, 1),
        (d.MM_CONTENT_TYPE, [(d.TYPE_NUMBER, 30), (d.CONTENT_SIZE, 29_000)]),
    ]
    assert context_of((d.MMS_INFORMATION, members)) == {
        "originator": "alice@example.com",
        "originator_type": 0,
        "recipients": ["447700900002", "70123"],
        "message_size_octets": 30_000,
        "message_type": 1,
        "message_class": 0,
        "priority": 1,
        "content_type": 30,
        "content_size_octets": 29_000,
    }


def test_cc_190_circuit_voice_and_mmtel() -> None:
    # CC-190: 32276: Basic-Service-Code, MSC-Address, VLR-Number, ISUP-Location-Number, Start-Time, Start-of-Charging,
    # Stop-Time; called/calling in IMS-Information. 32275: MMTel-Information/Supplementary-Service.
    members: Pairs = [
        (d.BASIC_SERVICE_CODE, [(d.TELESERVICE, b"\x11")]),
        (d.MSC_ADDRESS, octets("9144770900")),
        (d.VLR_NUMBER, octets("9144770901")),
        (d.ISUP_LOCATION_NUMBER, octets("0410")),
        (d.START_TIME, 1_772_481_600),
        (d.START_OF_CHARGING, 1_772_481_605),
        (d.STOP_TIME, 1_772_481_700),
    ]
    parties: Pairs = [(d.NODE_FUNCTIONALITY, 4), (d.CALLED_PARTY_ADDRESS, "tel:+1")]
    services: Pairs = [(d.SUPPLEMENTARY_SERVICE, [(d.MMTEL_SSERVICE_TYPE, 12)])]
    found = context_of((d.VCS_INFORMATION, members), (d.IMS_INFORMATION, parties), (d.MMTEL_INFORMATION, services))
    assert found == {
        "teleservice": "11",
        "msc_address": "9144770900",
        "vlr_number": "9144770901",
        "isup_location_number": "0410",
        "start_time_s": 1_772_481_600,
        "start_of_charging_s": 1_772_481_605,
        "stop_time_s": 1_772_481_700,
        "node_functionality": 4,
        "called_party": "tel:+1",
        "supplementary_services": [12],
    }


LOCATIONS = [
    ("00 62f220 1234 5678", {"type": 0, "mcc": "262", "mnc": "02", "lac": 0x1234, "ci": 0x5678}),
    ("01 62f220 1234 5678", {"type": 1, "mcc": "262", "mnc": "02", "lac": 0x1234, "sac": 0x5678}),
    ("02 62f220 1234 05ff", {"type": 2, "mcc": "262", "mnc": "02", "lac": 0x1234, "rac": 5}),
    ("80 130184 abcd", {"type": 128, "mcc": "311", "mnc": "480", "tac": 0xABCD}),
    ("81 99f907 f1234567", {"type": 129, "mcc": "999", "mnc": "70", "eci": 0x1234567}),
    (
        "82 99f907 0001 62f220 00000100",
        {"type": 130, "mcc": "999", "mnc": "70", "tac": 1, "ecgi_mcc": "262", "ecgi_mnc": "02", "eci": 256},
    ),
    ("87 99f907 000000000f", {"type": 135, "raw": "99f907000000000f"}),
]


@pytest.mark.parametrize(("sent", "expected"), LOCATIONS)
def test_cc_191_user_location_by_type(sent: str, expected: dict[str, object]) -> None:
    # CC-191: 3GPP-User-Location-Info is binary (type octet, PLMN in BCD, LAC/CI/TAC/ECI); decode types 0 CGI, 1 SAI,
    # 2 RAI, 128 TAI, 129 ECGI, 130 TAI+ECGI; others kept raw.
    assert user_location(octets(sent)) == expected
    assert context_of((d.PS_INFORMATION, [(d.TGPP_USER_LOCATION_INFO, octets(sent))])) == {"user_location": expected}


@pytest.mark.parametrize("sent", [sent for sent, found in LOCATIONS if "raw" not in found])
def test_cc_191_truncated_location_is_kept_raw(sent: str) -> None:
    # CC-191, our choice: a location that cannot be read refuses no request, it stands raw.
    whole = octets(sent)
    for size in range(1, len(whole) - (whole[0] == 2)):
        found = context_of((d.PS_INFORMATION, [(d.TGPP_USER_LOCATION_INFO, whole[:size])]))
        assert found == {"user_location_raw": whole[:size].hex()}
