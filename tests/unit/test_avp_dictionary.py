"""The dictionary against the table that it is made from, and every row of it through both twins."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from protocols.diameter import dictionary as d
from tests.support.codecs import Codec, both_twins, message_of
from tools import generate_dictionary

with generate_dictionary.TABLE.open(encoding="utf-8", newline="") as _file:
    ROWS = list(csv.DictReader(_file))
KEYS = [int(row["vendor"]) << 32 | int(row["code"]) for row in ROWS]

TEXT_MOST = "é" * 5_000
SAMPLES: dict[str, list[Any]] = {
    "Unsigned32": [0, 978, 2**32 - 1],
    "Unsigned64": [0, 10_485_760, 2**64 - 1],
    "Integer32": [-(2**31), -2, 0, 2**31 - 1],
    "Integer64": [-(2**63), 1_000, 2**63 - 1],
    "Time": [-61_505_152, 0, 1_772_481_600, 2_085_978_496, 4_233_462_143],
    "OctetString": [b"", b"\x82", bytes(range(256)) * 40],
    "UTF8String": ["", "32251@3gpp.org", TEXT_MOST],
    "DiameterIdentity": ["", "ocs1.example.com", "h" * 253],
    "DiameterURI": ["", "aaa://ocs1.example.com:3868;transport=tcp"],
    "IPFilterRule": ["", "permit in ip from any to 192.0.2.0/24"],
    "Address": [
        (1, "0.0.0.0"),
        (1, "255.255.255.255"),
        (2, "::"),
        (2, "2001:db8::1"),
        (8, "447700900123"),
        (6, b"mac"),
    ],
}


def least_members(definition: d.Definition) -> list[tuple[int, Any]]:
    """The members that a group must have."""
    return [(m.key, samples(d.DEFINITIONS[m.key])[0]) for m in definition.members if m.least]


def all_members(definition: d.Definition, depth: int) -> list[tuple[int, Any]]:
    """Each member that a group may have once, and twice where it may; groups in it to a depth of three."""
    found: list[tuple[int, Any]] = []
    for member in definition.members:
        inner = d.DEFINITIONS[member.key]
        if inner.kind != "Grouped":
            values = samples(inner)[-1:]
        else:
            values = [all_members(inner, depth - 1) if depth else least_members(inner)]
        found.extend((member.key, value) for value in values * (2 if member.most is None else 1))
    return found


def samples(definition: d.Definition) -> list[Any]:
    """Values of a row: the least, typical ones, the most."""
    if definition.key in d.CHECKED_ENUMERATIONS:
        return list(definition.enums)
    if definition.kind == "Enumerated":
        return [*definition.enums, -(2**31), 2**31 - 1]
    if definition.kind == "Grouped":
        return [least_members(definition), all_members(definition, 3)]
    # Three AVPs are raw where they are no IP address and no E.164 number, see test_avp.py.
    return SAMPLES[definition.kind][: 5 if d.codec_row(definition).kind == d.ADDRESS_OR_RAW else None]


def plain(value: Any) -> Any:
    """A decoded value with the flags taken out, as it was given to the encoder."""
    return [(key, plain(inner)) for key, _, inner in value] if isinstance(value, list) else value


def test_the_committed_dictionary_is_what_the_generator_writes() -> None:
    assert generate_dictionary.TARGET.read_text(encoding="utf-8") == generate_dictionary.generate(
        generate_dictionary.TABLE
    )


def test_every_row_of_the_table_is_defined() -> None:
    assert len(ROWS) == len(d.DEFINITIONS) == 710
    for row, key in zip(ROWS, KEYS, strict=True):
        definition = d.DEFINITIONS[key]
        assert (definition.name, definition.kind, definition.m) == (row["name"], row["type"], row["M"])
        assert (definition.vendor, definition.code) == (int(row["vendor"]), int(row["code"]))
    assert len({definition.name for definition in d.DEFINITIONS.values()}) == 710


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (264, "ORIGIN_HOST"),
        (416, "CC_REQUEST_TYPE"),
        (456, "MULTIPLE_SERVICES_CREDIT_CONTROL"),
        (10415 << 32 | 869, "VOLUME_QUOTA_THRESHOLD"),
        (10415 << 32 | 21, "TGPP_RAT_TYPE"),
        (5535 << 32 | 9010, "TGPP2_BSID"),
    ],
)
def test_constants_are_named_after_the_avps(key: int, name: str) -> None:
    assert getattr(d, name) == key


def test_members_of_a_group_carry_their_multiplicity() -> None:
    # RFC 8506 §8.16: [Granted-Service-Unit] … *[Used-Service-Unit] …; RFC 6733 §6.7.2: {Proxy-Host} {Proxy-State}.
    members = {member.key: member for member in d.DEFINITIONS[d.MULTIPLE_SERVICES_CREDIT_CONTROL].members}
    assert members[d.GRANTED_SERVICE_UNIT] == (d.GRANTED_SERVICE_UNIT, 0, 1)
    assert members[d.USED_SERVICE_UNIT] == (d.USED_SERVICE_UNIT, 0, None)
    assert d.DEFINITIONS[d.PROXY_INFO].members == ((d.PROXY_HOST, 1, 1), (d.PROXY_STATE, 1, 1))
    assert d.DEFINITIONS[d.SERVICE_DATA_CONTAINER].members[0].most is None


@both_twins
@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_every_row_round_trips_with_the_flags_of_the_table(codec: Codec, row: dict[str, str]) -> None:
    key = int(row["vendor"]) << 32 | int(row["code"])
    flags = (0x40 if row["M"] == "M" else 0) | (0x80 if row["vendor"] != "0" else 0)
    for value in samples(d.DEFINITIONS[key]):
        encoded = codec.encode_avp(key, value)
        assert encoded[:4] == int(row["code"]).to_bytes(4, "big")
        assert encoded[4] == flags
        assert len(encoded) % 4 == 0
        message = codec.decode_message(message_of(encoded))
        assert message.errors == []
        [(found, found_flags, decoded)] = message.avps
        assert (found, found_flags, plain(decoded)) == (key, flags, value)
        assert codec.encode_avp(found, decoded, found_flags) == encoded


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "OCS_PURE": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_missing_extension_is_an_error_that_says_what_to_do() -> None:
    hidden = "import sys; sys.modules['cython_ext._avp'] = None; import protocols.diameter.avp as avp; print(avp.Codec)"
    done = run(hidden)
    assert done.returncode == 1
    assert "ImportError: the compiled AVP codec cython_ext._avp is missing" in done.stderr
    assert "OCS_PURE=1" in done.stderr
    pure = run(hidden, OCS_PURE="1")
    assert (pure.returncode, pure.stdout.strip()) == (0, "<class 'protocols.diameter._avp_reference.Codec'>")
    compiled = run("import protocols.diameter.avp as avp; print(avp.Codec)")
    assert compiled.stdout.strip() == "<class 'cython_ext._avp.Codec'>"
