"""What a packet gateway sends: capabilities, watchdog answers, and CCRs with all that a PGW puts into them.

A CCR is written once for each connection and kind, 500 to 1,000 octets long; the compiled message path copies it and
patches what changes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from bench.gy.avps import FLAG_PROXIABLE, FLAG_REQUEST, TGPP, Patch, Writer, read_header

CAPABILITIES, WATCHDOG, DISCONNECT, CREDIT_CONTROL = 257, 280, 282, 272
CREDIT_CONTROL_APPLICATION = 4
INITIAL, UPDATE, TERMINATION = 1, 2, 3
RESULT_CODE, ORIGIN_HOST, ORIGIN_REALM = 268, 264, 296
NTP_EPOCH_S = 2_208_988_800
"""From 1900, where Diameter's Time begins, to 1970."""

QUOTA_EXHAUSTED, FINAL = 3, 2
SESSION_DIGITS, MSISDN_DIGITS, IMSI_DIGITS = 10, 15, 15


class Gateway(NamedTuple):
    """Who speaks over one connection, and to whom."""

    origin_host: str
    origin_realm: str
    destination_realm: str
    destination_host: str
    service_context: str
    origin_state_id: int
    session_prefix: str
    """What stands between Origin-Host and number in its Session-Ids; differs from run to run."""
    msisdn_digits: int
    imsi_digits: int


class Template(NamedTuple):
    """A CCR to be patched."""

    octets: bytes
    session_at: int
    session_size: int
    patches: tuple[Patch, ...]


def capabilities_request(gateway: Gateway, address: str) -> bytes:
    """A CER for Gy."""
    writer = Writer(CAPABILITIES, 0, FLAG_REQUEST)
    _origin(writer, gateway)
    writer.avp(257, _address(address))
    writer.avp(266, TGPP)
    writer.avp(269, "Tollgate load generator", mandatory=False)
    writer.avp(278, gateway.origin_state_id)
    writer.avp(265, TGPP)
    writer.avp(258, CREDIT_CONTROL_APPLICATION)
    return writer.finish()


def disconnect_request(gateway: Gateway) -> bytes:
    """A DPR: nothing more will come (DO_NOT_WANT_TO_TALK_TO_YOU)."""
    writer = Writer(DISCONNECT, 0, FLAG_REQUEST)
    _origin(writer, gateway)
    writer.avp(273, 2)
    return writer.finish()


def base_answer(gateway: Gateway, request: bytes) -> bytes:
    """The successful answer to a DWR or DPR."""
    header = read_header(request)
    writer = Writer(header.command, 0, 0, header.hop_by_hop, header.end_to_end)
    writer.avp(RESULT_CODE, 2001)
    _origin(writer, gateway)
    return writer.finish()


def unable_to_deliver(gateway: Gateway, request: bytes) -> bytes:
    """The answer to a request that a load generator does not serve (3001), such as an RAR."""
    header = read_header(request)
    application = int.from_bytes(request[8:12], "big")
    writer = Writer(header.command, application, 0x20, header.hop_by_hop, header.end_to_end)
    writer.avp(RESULT_CODE, 3001)
    _origin(writer, gateway)
    return writer.finish()


def session_id(gateway: Gateway, number: int) -> str:
    """A Session-Id of a gateway."""
    return f"{gateway.origin_host};{gateway.session_prefix};{number:0{SESSION_DIGITS}d}"


def credit_control(gateway: Gateway, kind: int, rating_groups: Sequence[int]) -> Template:
    """A CCR of a PGW: two Subscription-Ids, User-Name, PS-Information, one MSCC for each rating group."""
    writer = Writer(CREDIT_CONTROL, CREDIT_CONTROL_APPLICATION, FLAG_REQUEST | FLAG_PROXIABLE)
    session = session_id(gateway, 0)
    session_at = writer.avp(263, session)
    writer.patches.append(Patch(session_at + len(session) - SESSION_DIGITS, 0, 0, SESSION_DIGITS))
    _origin(writer, gateway)
    writer.avp(283, gateway.destination_realm)
    writer.avp(258, CREDIT_CONTROL_APPLICATION)
    writer.avp(461, gateway.service_context)
    writer.avp(416, kind)
    writer.patched(415, 0, "request_number")
    if gateway.destination_host:
        writer.avp(293, gateway.destination_host)
    writer.patched(1, "0" * gateway.imsi_digits + "@nai.epc.mnc015.mcc234.3gppnetwork.org", "imsi")
    writer.avp(278, gateway.origin_state_id)
    writer.patched(55, 0, "event_time")
    for type_of_id, digits, field in ((0, gateway.msisdn_digits, "msisdn"), (1, gateway.imsi_digits, "imsi")):
        with writer.group(443):
            writer.avp(450, type_of_id)
            writer.patched(444, "0" * digits, field)
    if kind == TERMINATION:
        writer.avp(295, 1)
    writer.avp(455, 1)
    for index, rating_group in enumerate(rating_groups):
        _service(writer, kind, index, rating_group)
    with writer.group(458):
        writer.avp(459, 0, mandatory=False)
        writer.avp(460, "3569380600000012", mandatory=False)
    _service_information(writer)
    return Template(writer.finish(), session_at, len(session), tuple(writer.patches))


def _service(writer: Writer, kind: int, index: int, rating_group: int) -> None:
    with writer.group(456):
        if kind != TERMINATION:
            with writer.group(437):
                pass
        if kind != INITIAL:
            with writer.group(446):
                writer.patched(420, 0, "used_time", index=index)
                for code, field in ((421, "used_total"), (412, "used_input"), (414, "used_output")):
                    writer.patched(code, bytes(8), field, index=index)
                if kind == UPDATE:
                    writer.avp(872, QUOTA_EXHAUSTED, TGPP)
        writer.avp(432, rating_group)
        if kind == TERMINATION:
            writer.avp(872, FINAL, TGPP)


def _service_information(writer: Writer) -> None:
    with writer.group(873, TGPP), writer.group(874, TGPP):
        writer.patched(2, bytes(4), "charging_id", vendor=TGPP)
        writer.avp(3, 0, TGPP)
        # Address is two octets of family before the address itself.
        writer.patch(writer.avp(1227, _address("10.0.0.0"), TGPP) + 2, "address")
        writer.avp(1228, _address("198.51.100.1"), TGPP)
        writer.avp(847, _address("198.51.100.2"), TGPP)
        writer.avp(2047, 2, TGPP)
        writer.avp(8, "23415", TGPP)
        writer.avp(9, "23415", TGPP)
        writer.avp(10, b"5", TGPP)
        writer.avp(30, "internet")
        writer.avp(12, "0", TGPP)
        writer.avp(13, "0800", TGPP)
        writer.avp(18, "23415", TGPP)
        writer.avp(23, b"\x00\x00", TGPP)
        writer.avp(21, b"\x06", TGPP)
        writer.avp(22, bytes.fromhex("8232f451000132f45100000101"), TGPP)


def _origin(writer: Writer, gateway: Gateway) -> None:
    writer.avp(ORIGIN_HOST, gateway.origin_host)
    writer.avp(ORIGIN_REALM, gateway.origin_realm)


def _address(text: str) -> bytes:
    address = ipaddress.ip_address(text)
    return (1 if address.version == 4 else 2).to_bytes(2, "big") + address.packed
