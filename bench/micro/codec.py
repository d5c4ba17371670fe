"""The codec alone: CPU time to decode a CCR and to encode its CCA, compiled and as the readable twin."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from bench.micro.case import Case
from protocols.diameter import dictionary, header
from protocols.diameter.errors import AvpError, LocalProtocolError

CODECS = {"compiled": "cython_ext._avp", "twin": "protocols.diameter._avp_reference"}

Pairs = list[tuple[int, Any]]


def load_codec(module: str) -> Any:
    """Return a codec of a module, with the whole dictionary; ImportError if the extension was not built."""
    return importlib.import_module(module).Codec(dictionary.codec_rows(), AvpError, LocalProtocolError)


def measured() -> Iterator[Case]:
    """All cases with both codecs."""
    for variant, module in CODECS.items():
        for case, octets, call in cases(load_codec(module)):
            yield Case("codec", case, variant, call, octets)


def cases(codec: Any) -> list[tuple[str, int, Callable[[], object]]]:
    """Return what is measured, as (case, octets of the message, call)."""
    initial = encode(codec, header.FLAG_REQUEST, initial_request())
    update = encode(codec, header.FLAG_REQUEST, update_request())
    answer = encode(codec, 0, update_answer())
    for message in (initial, update, answer):
        assert not codec.decode_message(message).errors
    return [
        ("decode CCR-I with Service-Information", len(initial), lambda: codec.decode_message(initial)),
        ("decode CCR-U with one MSCC", len(update), lambda: codec.decode_message(update)),
        ("encode CCA-U with one MSCC", len(answer), lambda: encode(codec, 0, update_answer())),
    ]


def encode(codec: Any, flags: int, avps: Pairs) -> bytes:
    """Return a Credit-Control message with these AVPs."""
    application = header.APPLICATION_CREDIT_CONTROL
    octets: bytes = codec.encode_message(
        header.CREDIT_CONTROL, application, flags | header.FLAG_PROXIABLE, 0x11223344, 0x55667788, avps
    )
    return octets


def session(request_type: int, number: int) -> Pairs:
    """Return the AVPs that every message of the session carries."""
    return [
        (dictionary.SESSION_ID, "gw1.example.net;1876543210;102;internet"),
        (dictionary.ORIGIN_HOST, "gw1.example.net"),
        (dictionary.ORIGIN_REALM, "example.net"),
        (dictionary.AUTH_APPLICATION_ID, header.APPLICATION_CREDIT_CONTROL),
        (dictionary.CC_REQUEST_TYPE, request_type),
        (dictionary.CC_REQUEST_NUMBER, number),
    ]


def request(request_type: int, number: int) -> Pairs:
    """Return what every request of a Gy client carries."""
    e164 = [(dictionary.SUBSCRIPTION_ID_TYPE, 0), (dictionary.SUBSCRIPTION_ID_DATA, "447700900123")]
    imsi = [(dictionary.SUBSCRIPTION_ID_TYPE, 1), (dictionary.SUBSCRIPTION_ID_DATA, "234150999999999")]
    return [
        *session(request_type, number),
        (dictionary.DESTINATION_REALM, "ocs.example.net"),
        (dictionary.SERVICE_CONTEXT_ID, "32251@3gpp.org"),
        (dictionary.EVENT_TIMESTAMP, 1_767_225_600),
        (dictionary.SUBSCRIPTION_ID, e164),
        (dictionary.SUBSCRIPTION_ID, imsi),
        (dictionary.MULTIPLE_SERVICES_INDICATOR, 1),
    ]


def initial_request() -> Pairs:
    """Return a CCR-Initial of a packet gateway."""
    ps_information = [
        (dictionary.TGPP_CHARGING_ID, 12345),
        (dictionary.TGPP_PDP_TYPE, 0),
        (dictionary.PDP_ADDRESS, (1, "192.0.2.77")),
        (dictionary.SGSN_ADDRESS, (1, "198.51.100.1")),
        (dictionary.GGSN_ADDRESS, (1, "198.51.100.2")),
        (dictionary.TGPP_IMSI_MCC_MNC, "23415"),
        (dictionary.TGPP_GGSN_MCC_MNC, "23415"),
        (dictionary.TGPP_NSAPI, b"5"),
        (dictionary.CALLED_STATION_ID, "internet"),
        (dictionary.TGPP_SELECTION_MODE, "0"),
        (dictionary.TGPP_CHARGING_CHARACTERISTICS, "0800"),
        (dictionary.TGPP_SGSN_MCC_MNC, "23415"),
        (dictionary.TGPP_MS_TIMEZONE, b"\x00\x00"),
        (dictionary.TGPP_RAT_TYPE, b"\x06"),
        (dictionary.TGPP_USER_LOCATION_INFO, bytes.fromhex("8232f451000132f45100000101")),
    ]
    asked = [(dictionary.REQUESTED_SERVICE_UNIT, []), (dictionary.RATING_GROUP, 100)]
    return [
        *request(1, 0),
        (dictionary.MULTIPLE_SERVICES_CREDIT_CONTROL, asked),
        (dictionary.SERVICE_INFORMATION, [(dictionary.PS_INFORMATION, ps_information)]),
    ]


def update_request() -> Pairs:
    """Return a CCR-Update that reports one quota key and asks for more."""
    used = [
        (dictionary.CC_TIME, 613),
        (dictionary.CC_TOTAL_OCTETS, 10_485_760),
        (dictionary.CC_INPUT_OCTETS, 9_437_184),
        (dictionary.CC_OUTPUT_OCTETS, 1_048_576),
    ]
    reported = [
        (dictionary.REQUESTED_SERVICE_UNIT, []),
        (dictionary.USED_SERVICE_UNIT, used),
        (dictionary.RATING_GROUP, 100),
        (dictionary.REPORTING_REASON, 3),
    ]
    return [*request(2, 1), (dictionary.MULTIPLE_SERVICES_CREDIT_CONTROL, reported)]


def update_answer() -> Pairs:
    """Return the CCA-Update that grants one quota key."""
    granted = [
        (dictionary.GRANTED_SERVICE_UNIT, [(dictionary.CC_TOTAL_OCTETS, 10_485_760)]),
        (dictionary.RATING_GROUP, 100),
        (dictionary.VALIDITY_TIME, 3600),
        (dictionary.RESULT_CODE, 2001),
        (dictionary.VOLUME_QUOTA_THRESHOLD, 1_048_576),
    ]
    return [*session(2, 1), (dictionary.RESULT_CODE, 2001), (dictionary.MULTIPLE_SERVICES_CREDIT_CONTROL, granted)]
