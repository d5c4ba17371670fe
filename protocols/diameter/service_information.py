"""Service-Information, and what clients put beside it, as one flat rating context (CC-190, CC-191).

Names are those of the AVPs without `3GPP-`; a unit stands last. Values are `int`, `str`, `bytes`, or lists of them, and
`dict` for a location and a time zone. Of an AVP that may occur once the first counts; Service-Information goes before
the same AVP at command level. Members that rating does not use are left out.

An inner value that cannot be read (a truncated location, a RAT type of two octets) does not refuse the request: it
stands as hexadecimal digits under its name with `_raw` at the end, and rules on the plain name do not match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from protocols.diameter import dictionary as d
from protocols.diameter.avp import every, first

Avp = tuple[int, int, Any]


class Field(NamedTuple):
    """Where the value of an AVP goes: a name, and how it is read; `many` collects a list."""

    name: str
    read: Callable[[Any], object] | None = None
    many: bool = False


Table = dict[int, "Field | Table"]


class RatingContext(Mapping[str, object]):
    """The rating context of a CCR, gathered when it is asked for the first time: most tariffs never ask."""

    __slots__ = ("_avps", "_gathered")

    def __init__(self, avps: Sequence[Avp]) -> None:
        self._avps = avps
        self._gathered: dict[str, object] | None = None

    def _context(self) -> dict[str, object]:
        if self._gathered is None:
            self._gathered = rating_context(self._avps)
        return self._gathered

    def __getitem__(self, name: str) -> object:
        return self._context()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._context())

    def __len__(self) -> int:
        return len(self._context())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._context()!r})"


def rating_context(avps: Iterable[Avp]) -> dict[str, object]:
    """Gather what rating may ask about from the AVPs of a CCR; never fails on decoded AVPs (CC-190)."""
    inner: dict[str, object] = {}
    outer: dict[str, object] = {}
    for avp in avps:
        if avp[0] == d.SERVICE_INFORMATION:
            _gather(avp[2], _SERVICE_INFORMATION, inner)
        elif avp[0] in _COMMAND:
            _gather((avp,), _COMMAND, outer)
    return {**outer, **inner}


def _gather(avps: Iterable[Avp], table: Table, context: dict[str, object]) -> None:
    for key, _, value in avps:
        entry = table.get(key)
        if entry is None:
            continue
        if isinstance(entry, dict):
            _gather(value, entry, context)
            continue
        name, found = entry.name, value
        if entry.read is not None:
            try:
                found = entry.read(value)
            except ValueError:
                name, found = f"{name}_raw", value.hex() if isinstance(value, bytes) else repr(value)
        if not entry.many or name != entry.name:
            context.setdefault(name, found)
        else:
            collected = context.setdefault(name, [])
            assert isinstance(collected, list)
            collected.append(found)


def user_location(octets: bytes) -> dict[str, object]:
    """Decode 3GPP-User-Location-Info; `ValueError` if it is cut short, too long or has no decimal PLMN (CC-191).

    Every result has `type`. Types 0 (CGI), 1 (SAI), 2 (RAI), 128 (TAI), 129 (ECGI) and 130 (TAI and ECGI) have `mcc`,
    `mnc` and their numbers `lac`, `ci`, `sac`, `rac`, `tac`, `eci`; 130 has the cell's own `ecgi_mcc`, `ecgi_mnc` too.
    Others have their octets as hexadecimal digits in `raw` (TS 29.061 §16.4.7.2, TS 29.274 §8.21).
    """
    if not octets:
        raise ValueError("empty location")
    kind, body = octets[0], octets[1:]
    if kind not in _LOCATION_OCTETS:
        return {"type": kind, "raw": body.hex()}
    if len(body) not in _LOCATION_OCTETS[kind]:
        raise ValueError(f"location of type {kind} with {len(body)} octets")
    mcc, mnc = plmn(body[:3])
    found: dict[str, object] = {"type": kind, "mcc": mcc, "mnc": mnc}
    if kind == 129:
        found["eci"] = _eci(body[3:7])
        return found
    found["tac" if kind in (128, 130) else "lac"] = int.from_bytes(body[3:5], "big")
    if kind in (0, 1):
        found["ci" if kind == 0 else "sac"] = int.from_bytes(body[5:7], "big")
    elif kind == 2:
        found["rac"] = body[5]  # the second octet of the field, if sent, is all ones
    elif kind == 130:
        found["ecgi_mcc"], found["ecgi_mnc"] = plmn(body[5:8])
        found["eci"] = _eci(body[8:12])
    return found


_LOCATION_OCTETS = {0: (7,), 1: (7,), 2: (6, 7), 128: (5,), 129: (7,), 130: (12,)}


def plmn(octets: bytes) -> tuple[str, str]:
    """Decode three octets of BCD into MCC and MNC; `ValueError` unless all digits are decimal (TS 24.008 §10.5.1.3)."""
    digits = octets.hex()
    mcc = digits[1] + digits[0] + digits[3]
    mnc = digits[5] + digits[4] + (digits[2] if digits[2] != "f" else "")
    if not (mcc + mnc).isdecimal():
        raise ValueError("PLMN with digits that are not decimal")
    return mcc, mnc


def _eci(octets: bytes) -> int:
    return int.from_bytes(octets, "big") & 0x0FFFFFFF


def ms_timezone(octets: bytes) -> dict[str, object]:
    """Decode 3GPP-MS-TimeZone: `offset_s` to UTC with summer time in it, and `summer_time_s` of that.

    The offset is two swapped BCD digits of quarters of an hour, the sign in bit 3 (TS 23.040 §9.2.3.11); `ValueError`
    if it is not.
    """
    if len(octets) != 2 or octets[1] > 2:
        raise ValueError("not a time zone")
    tens, units = octets[0] & 0x07, octets[0] >> 4
    if units > 9:
        raise ValueError("time zone with a digit that is not decimal")
    offset_s = (tens * 10 + units) * 900
    return {"offset_s": -offset_s if octets[0] & 0x08 else offset_s, "summer_time_s": octets[1] * 3600}


def _one_octet(octets: bytes) -> int:
    if len(octets) != 1:
        raise ValueError("not one octet")
    return octets[0]


def _address(value: tuple[int, str | bytes]) -> str:
    """Write an Address as text; octets of other families as hexadecimal digits."""
    rest = value[1]
    return rest if isinstance(rest, str) else rest.hex()


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.hex()


def _equipment(members: list[Avp]) -> dict[str, object]:
    """Type and value; an IMEISV as digits, whether it came as ASCII or as BCD (CC-212)."""
    kind = first(members, d.USER_EQUIPMENT_INFO_TYPE)
    value: bytes = first(members, d.USER_EQUIPMENT_INFO_VALUE) or b""
    return {"type": kind, "value": imeisv(value) if kind == 0 else value.hex()}


def imeisv(octets: bytes) -> str:
    """Write an IMEISV as digits: eight octets are BCD with swapped nibbles, others ASCII; else hexadecimal digits."""
    swapped = "".join(f"{octet & 0x0F:x}{octet >> 4:x}" for octet in octets).removesuffix("f")
    if len(octets) == 8 and swapped.isdecimal():
        return swapped
    return octets.decode("ascii") if octets.isdigit() else octets.hex()


def _address_data(members: list[Avp]) -> str:
    return str(first(members, d.ADDRESS_DATA) or "")


def _recipient(members: list[Avp]) -> str:
    """Address of a Recipient-Info: the one that the message goes to, else the one that the originator gave."""
    for key in (d.RECIPIENT_ADDRESS, d.RECIPIENT_RECEIVED_ADDRESS):
        found = next((data for data in map(_address_data, every(members, key)) if data), "")
        if found:
            return found
    return ""


def _media_type(members: list[Avp]) -> str:
    """First word of an SDP media line: `audio` of `m=audio 49170 RTP/AVP 0`."""
    words = str(first(members, d.SDP_MEDIA_NAME) or "").removeprefix("m=").split()
    return words[0].lower() if words else ""


def _service_type(members: list[Avp]) -> int | None:
    found: int | None = first(members, d.MMTEL_SSERVICE_TYPE)
    return found


_PS: Table = {
    d.TGPP_CHARGING_ID: Field("charging_id"),
    d.PDN_CONNECTION_CHARGING_ID: Field("pdn_connection_charging_id"),
    d.NODE_ID: Field("node_id"),
    d.TGPP_PDP_TYPE: Field("pdp_type"),
    d.PDP_ADDRESS: Field("pdp_addresses", _address, many=True),
    d.SGSN_ADDRESS: Field("sgsn_addresses", _address, many=True),
    d.GGSN_ADDRESS: Field("ggsn_addresses", _address, many=True),
    d.SGW_ADDRESS: Field("sgw_addresses", _address, many=True),
    d.SERVING_NODE_TYPE: Field("serving_node_type"),
    d.TGPP_IMSI_MCC_MNC: Field("imsi_mcc_mnc"),
    d.TGPP_GGSN_MCC_MNC: Field("ggsn_mcc_mnc"),
    d.TGPP_SGSN_MCC_MNC: Field("sgsn_mcc_mnc"),
    d.CALLED_STATION_ID: Field("called_station_id"),
    d.TGPP_SESSION_STOP_INDICATOR: Field("session_stop_indicator", bytes.hex),
    d.TGPP_SELECTION_MODE: Field("selection_mode"),
    d.TGPP_CHARGING_CHARACTERISTICS: Field("charging_characteristics"),
    d.CHARGING_RULE_BASE_NAME: Field("charging_rule_base_name"),
    d.TGPP_MS_TIMEZONE: Field("ms_timezone", ms_timezone),
    d.TGPP_USER_LOCATION_INFO: Field("user_location", user_location),
    d.TGPP_RAT_TYPE: Field("rat_type", _one_octet),
    d.TGPP_IMEISV: Field("imeisv", imeisv),
    d.TGPP_PS_DATA_OFF_STATUS: Field("ps_data_off_status"),
    d.USER_EQUIPMENT_INFO: Field("user_equipment", _equipment),
    d.START_TIME: Field("start_time_s"),
    d.STOP_TIME: Field("stop_time_s"),
    d.QOS_INFORMATION: {
        d.QOS_CLASS_IDENTIFIER: Field("qos_class"),
        d.MAX_REQUESTED_BANDWIDTH_UL: Field("max_requested_bandwidth_ul"),
        d.MAX_REQUESTED_BANDWIDTH_DL: Field("max_requested_bandwidth_dl"),
        d.GUARANTEED_BITRATE_UL: Field("guaranteed_bitrate_ul"),
        d.GUARANTEED_BITRATE_DL: Field("guaranteed_bitrate_dl"),
        d.APN_AGGREGATE_MAX_BITRATE_UL: Field("apn_aggregate_max_bitrate_ul"),
        d.APN_AGGREGATE_MAX_BITRATE_DL: Field("apn_aggregate_max_bitrate_dl"),
        d.ALLOCATION_RETENTION_PRIORITY: {d.PRIORITY_LEVEL: Field("priority_level")},
    },
}

_IMS: Table = {
    d.EVENT_TYPE: {d.SIP_METHOD: Field("sip_method"), d.EVENT: Field("event"), d.EXPIRES: Field("expires_s")},
    d.ROLE_OF_NODE: Field("role_of_node"),
    d.NODE_FUNCTIONALITY: Field("node_functionality"),
    d.CALLING_PARTY_ADDRESS: Field("calling_party", many=True),
    d.CALLED_PARTY_ADDRESS: Field("called_party"),
    d.REQUESTED_PARTY_ADDRESS: Field("requested_party", many=True),
    d.CALLED_ASSERTED_IDENTITY: Field("called_asserted_identity", many=True),
    d.ALTERNATE_CHARGED_PARTY_ADDRESS: Field("alternate_charged_party"),
    d.NUMBER_PORTABILITY_ROUTING_INFORMATION: Field("number_portability_routing_information"),
    d.CARRIER_SELECT_ROUTING_INFORMATION: Field("carrier_select_routing_information"),
    d.TIME_STAMPS: {
        d.SIP_REQUEST_TIMESTAMP: Field("sip_request_time_s"),
        d.SIP_RESPONSE_TIMESTAMP: Field("sip_response_time_s"),
    },
    d.SDP_MEDIA_COMPONENT: Field("media_types", _media_type, many=True),
    d.IMS_CHARGING_IDENTIFIER: Field("ims_charging_identifier"),
    d.ACCESS_NETWORK_INFORMATION: Field("access_network_information", _text, many=True),
    d.IMS_VISITED_NETWORK_IDENTIFIER: Field("ims_visited_network_identifier"),
    d.CAUSE_CODE: Field("cause_code"),
}

_SMS: Table = {
    d.SM_MESSAGE_TYPE: Field("sm_message_type"),
    d.SMS_NODE: Field("sms_node"),
    d.NUMBER_OF_MESSAGES_SENT: Field("number_of_messages"),
    d.ORIGINATOR_RECEIVED_ADDRESS: {
        d.ADDRESS_DATA: Field("originator"),
        d.ADDRESS_TYPE: Field("originator_type"),
    },
    d.RECIPIENT_INFO: Field("recipients", _recipient, many=True),
    d.SMSC_ADDRESS: Field("smsc_address", _address),
    d.DATA_CODING_SCHEME: Field("data_coding_scheme"),
    d.SM_SERVICE_TYPE: Field("sm_service_type"),
}

_MMS: Table = {
    d.ORIGINATOR_ADDRESS: {d.ADDRESS_DATA: Field("originator"), d.ADDRESS_TYPE: Field("originator_type")},
    d.RECIPIENT_ADDRESS: Field("recipients", _address_data, many=True),
    d.MESSAGE_SIZE: Field("message_size_octets"),
    d.MESSAGE_TYPE: Field("message_type"),
    d.MESSAGE_CLASS: {d.CLASS_IDENTIFIER: Field("message_class"), d.TOKEN_TEXT: Field("message_class_text")},
    d.PRIORITY: Field("priority"),
    d.MM_CONTENT_TYPE: {d.TYPE_NUMBER: Field("content_type"), d.CONTENT_SIZE: Field("content_size_octets")},
}

_VCS: Table = {
    d.BASIC_SERVICE_CODE: {
        d.BEARER_SERVICE: Field("bearer_service", bytes.hex),
        d.TELESERVICE: Field("teleservice", bytes.hex),
    },
    d.MSC_ADDRESS: Field("msc_address", bytes.hex),
    d.VLR_NUMBER: Field("vlr_number", bytes.hex),
    d.ISUP_LOCATION_NUMBER: Field("isup_location_number", bytes.hex),
    d.START_TIME: Field("start_time_s"),
    d.START_OF_CHARGING: Field("start_of_charging_s"),
    d.STOP_TIME: Field("stop_time_s"),
}

_SERVICE_INFORMATION: Table = {
    d.PS_INFORMATION: _PS,
    d.IMS_INFORMATION: _IMS,
    d.SMS_INFORMATION: _SMS,
    d.MMS_INFORMATION: _MMS,
    d.VCS_INFORMATION: _VCS,
    d.MMTEL_INFORMATION: {d.SUPPLEMENTARY_SERVICE: Field("supplementary_services", _service_type, many=True)},
}

# Clients of RFC 8506 alone, and gateways from before Service-Information, send these at command level.
_COMMAND: Table = _PS
