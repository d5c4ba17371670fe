"""The AVP dictionary: a constant for each key, and what is known about each (docs/requirements/avps.csv).

A key is `vendor << 32 | code`, since the code alone does not name an AVP (DB-040). Constants are the names of the
standards in upper case; `3GPP-` becomes `TGPP_` and `3GPP2-` becomes `TGPP2_`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from protocols.diameter import _dictionary_data as _data
from protocols.diameter._dictionary_data import *  # noqa: F403

VENDOR_IETF = 0
VENDOR_3GPP = 10415
VENDOR_3GPP2 = 5535
VENDOR_ETSI = 13019


SendM = Literal["M", "may", "must-not"]


class Member(NamedTuple):
    """How often an AVP stands in a group: at least `least` and at most `most` times, without limit if `None`."""

    key: int
    least: int
    most: int | None


class Definition(NamedTuple):
    """One row of the dictionary."""

    name: str
    key: int
    kind: str
    """Type as the standards name it: `Unsigned32`, `Grouped`, …"""

    m: SendM
    """Rule for the M bit on sending."""

    members: tuple[Member, ...]
    enums: dict[int, str]

    @property
    def code(self) -> int:
        """AVP Code."""
        return self.key & 0xFFFFFFFF

    @property
    def vendor(self) -> int:
        """Vendor-Id, 0 for the IETF's."""
        return self.key >> 32


def _define() -> dict[int, Definition]:
    rules: dict[str, SendM] = {rule: rule for rule in get_args(SendM)}
    definitions: dict[int, Definition] = {}
    for key, name, kind, m in _data.ROWS:
        members = _data.MEMBERS.get(key, ())
        definitions[key] = Definition(
            name,
            key,
            kind,
            rules[m],
            tuple(Member(member, least, None if most < 0 else most) for least, most, member in members),
            _data.ENUMERATIONS.get(key, {}),
        )
    return definitions


DEFINITIONS: dict[int, Definition] = _define()
BY_NAME: dict[str, Definition] = {definition.name: definition for definition in DEFINITIONS.values()}

CHECKED_ENUMERATIONS = frozenset(
    {
        _data.CC_REQUEST_TYPE,
        _data.CC_UNIT_TYPE,
        _data.DISCONNECT_CAUSE,
        _data.MULTIPLE_SERVICES_INDICATOR,
        _data.REQUESTED_ACTION,
        _data.TARIFF_CHANGE_USAGE,
    }
)
"""Enumerated AVPs that this server interprets, so that an undefined value is 5004 (DB-055).

All others pass whatever their value: usage must not be refused for a reason, trigger or access type of a later release.
"""

# Kinds of the wire, as the codec numbers them.
OCTETS, UTF8, ASCII, UNSIGNED32, UNSIGNED64, INTEGER32, INTEGER64, FLOAT32, FLOAT64 = range(9)
ADDRESS, ADDRESS_OR_RAW, TIME, GROUPED, GROUPED_QUOTE, OCTETS_OR_UNSIGNED32 = range(9, 15)

_WIRE_KINDS = {
    "OctetString": OCTETS,
    "UTF8String": UTF8,
    "DiameterIdentity": ASCII,
    "DiameterURI": ASCII,
    "IPFilterRule": ASCII,
    "Unsigned32": UNSIGNED32,
    "Unsigned64": UNSIGNED64,
    "Integer32": INTEGER32,
    "Integer64": INTEGER64,
    "Float32": FLOAT32,
    "Float64": FLOAT64,
    "Enumerated": INTEGER32,
    "Address": ADDRESS,
    "Time": TIME,
    "Grouped": GROUPED,
}

# Where dictionaries disagree about a type (docs/requirements/avps.md, "Conflicts"), and Failed-AVP, which quotes what
# is broken and therefore is never itself in error.
_WIRE_EXCEPTIONS = {
    _data.TGPP_CHARGING_ID: OCTETS_OR_UNSIGNED32,
    _data.SMSC_ADDRESS: ADDRESS_OR_RAW,
    _data.ORIGINATOR_SCCP_ADDRESS: ADDRESS_OR_RAW,
    _data.RECIPIENT_SCCP_ADDRESS: ADDRESS_OR_RAW,
    _data.FAILED_AVP: GROUPED_QUOTE,
}


class CodecRow(NamedTuple):
    """What a codec needs to know about an AVP."""

    key: int
    name: str
    kind: int
    mandatory: bool
    members: tuple[Member, ...]
    allowed: frozenset[int] | None
    """Values that are not an error; `None` allows all."""


def codec_row(definition: Definition) -> CodecRow:
    """Reduce a definition to what a codec needs."""
    checked = definition.key in CHECKED_ENUMERATIONS
    return CodecRow(
        definition.key,
        definition.name,
        _WIRE_EXCEPTIONS.get(definition.key, _WIRE_KINDS[definition.kind]),
        definition.m == "M",
        definition.members,
        frozenset(definition.enums) if checked else None,
    )


def codec_rows() -> list[CodecRow]:
    """Return the whole dictionary as a codec needs it."""
    return [codec_row(definition) for definition in DEFINITIONS.values()]


def name_of(key: int) -> str:
    """Return the standards' name of a key, `vendor:code` if it has no row."""
    definition = DEFINITIONS.get(key)
    return definition.name if definition is not None else f"{key >> 32}:{key & 0xFFFFFFFF}"
