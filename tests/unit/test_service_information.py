"""The parts that a rating context is read from."""

from __future__ import annotations

import pytest

from protocols.diameter import dictionary as d
from protocols.diameter.service_information import imeisv, ms_timezone, plmn, rating_context, user_location
from tests.support.codecs import octets


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("99f907", ("999", "70")),
        ("62f220", ("262", "02")),
        ("130184", ("311", "480")),  # a three-digit MNC: its third digit stands in the second octet
        ("00f110", ("001", "01")),
    ],
)
def test_plmn_of_swapped_digits(sent: str, expected: tuple[str, str]) -> None:
    assert plmn(octets(sent)) == expected


@pytest.mark.parametrize("sent", ["ffffff", "9af907", "99f90f"])
def test_plmn_of_other_digits_is_refused(sent: str) -> None:
    with pytest.raises(ValueError, match="decimal"):
        plmn(octets(sent))


@pytest.mark.parametrize(
    ("sent", "offset_s", "summer_time_s"),
    [
        ("0000", 0, 0),
        ("4000", 3600, 0),  # UTC+1: four quarters
        ("8001", 7200, 3600),  # UTC+2, of which one hour is summer time
        ("2200", 19800, 0),  # UTC+5:30: 22 quarters
        ("0a00", -18000, 0),  # UTC-5: 20 quarters, sign bit set
        ("6900", -14400, 0),  # UTC-4: 16 quarters, sign bit set
    ],
)
def test_time_zone_counts_quarters(sent: str, offset_s: int, summer_time_s: int) -> None:
    assert ms_timezone(octets(sent)) == {"offset_s": offset_s, "summer_time_s": summer_time_s}


@pytest.mark.parametrize("sent", ["", "40", "400000", "a000", "4003"])
def test_what_is_no_time_zone_is_refused(sent: str) -> None:
    with pytest.raises(ValueError, match="time zone"):
        ms_timezone(octets(sent))


def test_bad_inner_values_stand_raw_and_refuse_nothing() -> None:
    members = [
        (d.TGPP_RAT_TYPE, 0, b"\x00\x06"),
        (d.TGPP_MS_TIMEZONE, 0, b"\x40"),
        (d.TGPP_USER_LOCATION_INFO, 0, octets("82 99f907 0001 99f907 0000")),
        (d.CALLED_STATION_ID, 0, "internet"),
    ]
    context = rating_context([(d.SERVICE_INFORMATION, 0, [(d.PS_INFORMATION, 0, members)])])
    assert context == {
        "rat_type_raw": "0006",
        "ms_timezone_raw": "40",
        "user_location_raw": "8299f907000199f9070000",
        "called_station_id": "internet",
    }


def test_service_information_goes_before_command_level() -> None:
    outer = [(d.CALLED_STATION_ID, 0, "outer"), (d.TGPP_RAT_TYPE, 0, b"\x01")]
    inner = [(d.SERVICE_INFORMATION, 0, [(d.PS_INFORMATION, 0, [(d.CALLED_STATION_ID, 0, "inner")])])]
    assert rating_context([*outer, *inner]) == {"called_station_id": "inner", "rat_type": 1}
    assert rating_context(outer) == {"called_station_id": "outer", "rat_type": 1}


def test_imeisv_comes_as_ascii_or_bcd() -> None:
    # CC-212: IMEISV in Gy is often BCD (8 octets) *or* ASCII (16): accept both.
    assert imeisv(b"3520990012345601") == "3520990012345601"
    assert imeisv(octets("5302990021436510")) == "3520990012345601"
    assert imeisv(octets("53029900214365f0")) == "352099001234560"  # an IMEI, filled up
    assert imeisv(b"\xff\x00") == "ff00"


def test_location_needs_an_octet() -> None:
    with pytest.raises(ValueError, match="empty"):
        user_location(b"")
