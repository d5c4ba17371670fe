"""What people type, as the integers that the interface takes: amounts, ends of validity, identities."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import Any

from balance.money import MoneyError, parse_micros
from ocs.charging.identity_text import KINDS
from ocs.cli.errors import BadInput
from tariffs.model import Unit
from tariffs.quantities import SUFFIXES, QuantityError, parse_size

AMOUNT_EXPECTED = "money such as 5.00, or units such as 15MiB, 100min or 50events"
EXPIRY_EXPECTED = "a time span such as 3600s or 30d, a day such as 2026-12-31, or a time such as 2026-12-31T12:00:00Z"

_WORD = re.compile(r"[A-Za-z]+\Z")
_SPAN = re.compile(r"[0-9]+ ?[A-Za-z]+")
_EVENTS = ("event", "events")
_NAMES = {Unit.OCTETS: "octets", Unit.SECONDS: "seconds", Unit.EVENTS: "events"}


def parse_money(field: str, text: str) -> int:
    """Micro-units of a text such as `5.00`."""
    try:
        return parse_micros(text)
    except MoneyError as error:
        raise BadInput(f"{field}: {error}") from None


def parse_amount(text: str) -> tuple[str, int]:
    """(kind, amount) of a text: money without a suffix, units with one; either sign.

    The amount is in micro-units, octets, seconds or events.
    """
    stripped = text.strip()
    word = _WORD.search(stripped)
    if word is None:
        try:
            return "money", parse_micros(stripped)
        except MoneyError:
            raise BadInput(f"amount: {text!r} is no amount, expected {AMOUNT_EXPECTED}") from None
    sign = -1 if stripped.startswith("-") else 1
    digits = stripped.removeprefix("-").removeprefix("+")
    unit = _unit_of(word.group())
    if unit is None:
        raise BadInput(f"amount: unknown unit {word.group()!r} in {text!r}, expected {AMOUNT_EXPECTED}")
    if unit is Unit.EVENTS:
        digits = digits[: -len(word.group())].strip()
    try:
        return _NAMES[unit], sign * parse_size(digits, unit)
    except QuantityError as error:
        raise BadInput(f"amount: {error}") from None


def _unit_of(word: str) -> Unit | None:
    if word in _EVENTS:
        return Unit.EVENTS
    for unit in (Unit.OCTETS, Unit.SECONDS):
        if word in SUFFIXES[unit]:
            return unit
    # A mistyped size is told by the reader of sizes, which knows what was meant.
    return Unit.OCTETS if word.lower() in (known.lower() for known in SUFFIXES[Unit.OCTETS]) else None


def parse_expiry(text: str) -> dict[str, int]:
    """`valid_for_s` of a time span, or `valid_until_s` of a day (its end, in UTC) or of a time with its zone."""
    stripped = text.strip()
    if _SPAN.fullmatch(stripped):
        try:
            seconds = parse_size(stripped, Unit.SECONDS)
        except QuantityError as error:
            raise BadInput(f"expires: {error}") from None
        if seconds < 1:
            raise BadInput(f"expires: {text!r} is over at once, expected {EXPIRY_EXPECTED}")
        return {"valid_for_s": seconds}
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", stripped):
            day = datetime.date.fromisoformat(stripped)
            start = datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC)
            return {"valid_until_s": int(start.timestamp()) + 86_400}
        moment = datetime.datetime.fromisoformat(stripped)
    except ValueError:
        raise BadInput(f"expires: {text!r} is no end of validity, expected {EXPIRY_EXPECTED}") from None
    if moment.tzinfo is None:
        raise BadInput(f"expires: {text!r} has no time zone, expected e.g. {stripped}Z")
    seconds = int(moment.timestamp())
    if seconds < 1:
        raise BadInput(f"expires: {text!r} is over, expected a time to come")
    return {"valid_until_s": seconds}


def parse_moment(field: str, text: str) -> int:
    """UTC microseconds of a day (its beginning, in UTC) or of a time with its zone."""
    stripped = text.strip()
    try:
        moment = datetime.datetime.fromisoformat(stripped)
    except ValueError:
        expected = "a day such as 2026-12-31, or a time such as 2026-12-31T12:00:00Z"
        raise BadInput(f"{field}: {text!r} is no time, expected {expected}") from None
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", stripped):
        moment = moment.replace(tzinfo=datetime.UTC)
    if moment.tzinfo is None:
        raise BadInput(f"{field}: {text!r} has no time zone, expected e.g. {stripped}Z")
    since_1970 = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    micros = since_1970 // datetime.timedelta(microseconds=1)
    if micros <= 0:
        raise BadInput(f"{field}: {text!r} is before 1970")
    return micros


def parse_octets(field: str, text: str) -> int:
    """Octets of a size such as `64MiB`, at least one."""
    return _positive_size(field, text, Unit.OCTETS)


def parse_span(field: str, text: str) -> int:
    """Seconds of a time span such as `300s`, at least one."""
    return _positive_size(field, text, Unit.SECONDS)


def _positive_size(field: str, text: str, unit: Unit) -> int:
    try:
        size = parse_size(text.strip(), unit)
    except QuantityError as error:
        raise BadInput(f"{field}: {error}") from None
    if size < 1:
        raise BadInput(f"{field}: {text!r}, expected more than nothing")
    return size


def parse_identity(text: str) -> dict[str, str]:
    """`kind` and `value` of a text such as `e164:447700900123`."""
    kind, colon, value = text.partition(":")
    if not colon or kind not in KINDS or not value:
        raise BadInput(f"identity: {text!r}, expected KIND:VALUE with KIND one of {', '.join(KINDS)}")
    return {"kind": kind, "value": value}


def gather_identities(texts: Iterable[str], **options: Iterable[str]) -> list[dict[str, str]]:
    """Identities written `kind:value`, and those of options named by their kind."""
    found = [parse_identity(text) for text in texts]
    for kind, values in options.items():
        found += [{"kind": kind, "value": value} for value in values]
    return found


def one_identity(texts: Iterable[str], **options: Iterable[str]) -> dict[str, str]:
    """The one identity of a command that takes exactly one."""
    found = gather_identities(texts, **options)
    if len(found) != 1:
        raise BadInput(f"identity: {len(found)} given, expected exactly one, such as e164:447700900123")
    return found[0]


def without_absent(**fields: Any) -> dict[str, Any]:
    """The fields that are not `None`."""
    return {name: value for name, value in fields.items() if value is not None}
