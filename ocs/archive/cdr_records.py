"""From archived events to charging data records. Pure, but for the look back at how a session began.

usage       one key of one request: what was used and what it cost
session     one when a session closes: its totals since it was opened
posting     one for each entry that moved a balance without usage: top-up, adjustment, refund, expiry, uncollected
operation   an operator's change that moved nothing
damaged     an event whose octets cannot be decoded

So of each account, what usage cost and what postings moved is the change of its balance.
"""

from __future__ import annotations

import datetime
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from balance.account import MAIN_BUCKET, BucketKind
from balance.ledger import Entry, Event, UsageLine, Verb, decode_event
from balance.money import format_micros
from ocs.archive.segments import ArchivedEvent
from tariffs.currencies import CURRENCIES

Record = dict[str, Any]

COLUMNS = (
    *("type", "record", "position", "time", "time_us", "event_time_us", "account", "subscriber", "version", "event"),
    *("kind", "session", "request", "peer", "service_context", "result", "close_cause"),
    *("rating_group", "service_identifiers", "catalogue_version", "tariff", "unit", "used", "billed", "from_buckets"),
    *("money_units", "over_use_units", "over_use_micros", "unrated", "charged", "charged_micros", "currency"),
    *("opened_us", "duration_s", "requests", "octets", "seconds", "events"),
    *("verb", "cause", "bucket", "amount", "amount_micros", "amount_units"),
    *("balance_after", "balance_after_micros", "buckets_after"),
    *("operation", "key", "who", "reason"),
)
"""All fields, in the order of a CSV's columns; a field that does not apply is empty there, and absent in JSON."""

SESSIONS_KNOWN = 200_000
"""Open sessions whose totals are kept while an export runs; the others are looked up when they close."""

_CODES = {currency.numeric: currency.code for currency in CURRENCIES.values()}
_UNITS = {int(kind): kind.name.lower() for kind in BucketKind}
_INITIAL = "initial "
_QUIET = (Verb.RESERVE, Verb.RELEASE)

LookBack = Callable[[str, int], Iterator[ArchivedEvent]]
"""(session, position) -> its events up to that position, youngest first."""


class SessionTotals(msgspec.Struct):
    """What a session used and paid from its opening on."""

    opened_us: int = 0
    requests: int = 0
    charged_micros: int = 0
    used: dict[int, int] = {}
    """Kind of unit -> units reported and rated."""

    def add(self, event: Event) -> None:
        """Take one more event into account, in any order."""
        self.opened_us = min(self.opened_us or event.at_us, event.at_us)
        self.requests += bool(event.request) and event.close_cause != _REOPENED
        for line in event.usage:
            self.charged_micros += line.debited_micros
            if line.unit:
                self.used[line.unit] = self.used.get(line.unit, 0) + line.used


_REOPENED = "reopened_by_initial"
"""The event that closes a session since its INITIAL came anew bears the name of that INITIAL."""


class RecordMaker:
    """Makes the records of events that come in order of position."""

    def __init__(self, look_back: LookBack) -> None:
        self._look_back = look_back
        self._open: OrderedDict[str, SessionTotals] = OrderedDict()
        self.mismatches = 0
        """Events whose usage does not add up to the money that their entries took: never, or the books are wrong."""

    def records(self, one: ArchivedEvent) -> tuple[int, list[Record]]:
        """(UTC microseconds of the event, its records)."""
        try:
            event = decode_event(one.event)
        except msgspec.MsgspecError:
            record = {"type": "damaged", "record": f"damaged/{one.position}", "position": one.position}
            return 0, [{**record, "reason": one.event.hex()}]
        head = _head(one, event)
        found = [_usage(head, n, line, one) for n, line in enumerate(event.usage) if _is_used(line)]
        found += [_posting(head, n, entry, one) for n, entry in enumerate(event.entries) if _is_posting(event, entry)]
        if event.operation and not found:
            found.append({**head, "type": "operation", "record": f"{head['record']}/o"})
        if event.kind in ("session", "sweep") and event.session_id:
            totals = self._totals(one, event)
            if totals is not None:
                found.append(_session(head, totals, event, one))
        self.mismatches += _does_not_add_up(event)
        return event.at_us, found

    def _totals(self, one: ArchivedEvent, event: Event) -> SessionTotals | None:
        """The totals of a session that this event closes; else they are kept for later."""
        known = self._open
        if event.request.startswith(_INITIAL) and not event.close_cause:
            known[event.session_id] = SessionTotals(used={})
            while len(known) > SESSIONS_KNOWN:
                known.popitem(last=False)
        totals = known.get(event.session_id)
        if not event.close_cause:
            if totals is not None:
                totals.add(event)
            return None
        if totals is None:
            return session_totals(event, self._look_back(event.session_id, one.position - 1))
        del known[event.session_id]
        totals.add(event)
        return totals


def session_totals(closing: Event, before: Iterable[ArchivedEvent]) -> SessionTotals:
    """Totals of a session from its closing event back to the INITIAL that opened it."""
    totals = SessionTotals(used={})
    totals.add(closing)
    for one in before:
        event = decode_event(one.event)
        if event.kind not in ("session", "sweep"):
            continue
        totals.add(event)
        if event.request.startswith(_INITIAL):
            break
    return totals


def _head(one: ArchivedEvent, event: Event) -> Record:
    after: dict[int, Entry] = {entry.bucket: entry for entry in event.entries}
    main = after.get(MAIN_BUCKET)
    return {
        "record": f"{event.account}/{event.version}/{event.n}",
        "position": one.position,
        "time": utc_text(event.at_us),
        "time_us": event.at_us,
        "event_time_us": event.event_time_us or None,
        "account": event.account,
        "subscriber": event.subscriber or None,
        "version": event.version,
        "event": event.n,
        "kind": event.kind,
        "session": event.session_id or None,
        "request": event.request or None,
        "peer": event.peer or None,
        "service_context": event.service_context or None,
        "result": event.result or None,
        "close_cause": event.close_cause or None,
        "currency": _CODES.get(one.currency, str(one.currency) if one.currency else None),
        "balance_after": None if main is None else format_micros(main.posted_after, one.exponent),
        "balance_after_micros": None if main is None else main.posted_after,
        "buckets_after": [[bucket, entry.posted_after] for bucket, entry in sorted(after.items())] or None,
        "operation": event.operation or None,
        "key": event.key or None,
        "who": event.who or None,
        "reason": event.reason or None,
    }


def _is_used(line: UsageLine) -> bool:
    return bool(line.used or line.billed or line.money_units or line.debited_micros or line.unrated)


def _usage(head: Record, number: int, line: UsageLine, one: ArchivedEvent) -> Record:
    return {
        **head,
        "type": "usage",
        "record": f"{head['record']}/u{number}",
        "result": line.result,
        "rating_group": line.rating_group,
        "service_identifiers": list(line.service_identifiers) or None,
        "catalogue_version": line.catalogue_version or None,
        "tariff": line.tariff or None,
        "unit": _UNITS.get(line.unit) if line.unit else None,
        "used": line.used,
        "billed": line.billed,
        "from_buckets": [list(pair) for pair in line.from_buckets] or None,
        "money_units": line.money_units,
        "over_use_units": line.over_use_units or None,
        "over_use_micros": line.over_use_micros or None,
        "unrated": [[_UNITS[kind], units] for kind, units in line.unrated] or None,
        "charged": format_micros(line.debited_micros, one.exponent),
        "charged_micros": line.debited_micros,
        "reason": line.why or head["reason"],
    }


def _is_posting(event: Event, entry: Entry) -> bool:
    """Whether an entry needs a record of its own: debits of usage are in the records of the usage."""
    if entry.verb in _QUIET or (entry.verb is Verb.DEBIT and event.usage):
        return False
    return bool(entry.posted_change or entry.amount)


def _posting(head: Record, number: int, entry: Entry, one: ArchivedEvent) -> Record:
    amount = entry.amount if entry.verb is Verb.UNCOLLECTED else entry.posted_change
    is_money = entry.kind == BucketKind.MONEY
    return {
        **head,
        "type": "posting",
        "record": f"{head['record']}/p{number}",
        "verb": entry.verb.value,
        "cause": entry.cause.value,
        "bucket": entry.bucket,
        "unit": _UNITS.get(entry.kind, str(entry.kind)),
        "amount": format_micros(amount, one.exponent) if is_money else None,
        "amount_micros": amount if is_money else None,
        "amount_units": None if is_money else amount,
    }


def _session(head: Record, totals: SessionTotals, event: Event, one: ArchivedEvent) -> Record:
    return {
        **head,
        "type": "session",
        "record": f"{head['record']}/s",
        "opened_us": totals.opened_us,
        "duration_s": (event.at_us - totals.opened_us) // 1_000_000,
        "requests": totals.requests,
        "octets": totals.used.get(BucketKind.OCTETS, 0),
        "seconds": totals.used.get(BucketKind.SECONDS, 0),
        "events": totals.used.get(BucketKind.EVENTS, 0),
        "charged": format_micros(totals.charged_micros, one.exponent),
        "charged_micros": totals.charged_micros,
    }


def _does_not_add_up(event: Event) -> bool:
    """Whether the usage of an event and the money that its entries took differ."""
    if not event.usage:
        return False
    taken = sum(one.posted_change for one in event.entries if one.verb is Verb.DEBIT and one.kind == BucketKind.MONEY)
    return sum(line.debited_micros for line in event.usage) != -taken


def utc_text(at_us: int) -> str:
    """UTC microseconds as `2026-03-02T11:13:20.000000Z`."""
    seconds, micros = divmod(at_us, 1_000_000)
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return f"{at_us} us"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"


def day_of(at_us: int) -> str:
    """UTC day as `2026-03-02`."""
    return utc_text(at_us)[:10]
