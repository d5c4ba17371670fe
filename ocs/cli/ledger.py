"""The ledger of an account as a table: one line for each entry, and one for each event that moved nothing."""

from __future__ import annotations

from typing import Any

from ocs.cli.output import amount, moment_us, table

Json = dict[str, Any]

COLUMNS = (
    "time",
    "verb",
    "cause",
    ">bucket",
    ">change",
    ">balance after",
    ">reserved",
    ">reserved after",
    "for",
    "who",
    "reason",
)


def print_ledger(page: Json) -> None:
    """A page of the ledger."""
    rows = [row for event in page["items"] for row in _rows(event, page["currency_code"], page["exponent"])]
    table(COLUMNS, rows)


def _rows(event: Json, code: str, exponent: int) -> list[tuple[object, ...]]:
    time, who, reason = moment_us(event["at_us"]), event["who"] or event["peer"], event["reason"]
    purpose = _purpose(event)
    if not event["entries"]:
        verb = event["operation"] or event["close_cause"] or event["result"] or event["kind"]
        return [(time, verb, event["kind"], "", "", "", "", "", purpose, who, reason)]
    rows: list[tuple[object, ...]] = []
    for entry in event["entries"]:
        kind = entry["kind"]

        def shown(value: int, sign: bool = False, kind: str = kind) -> str:
            return amount(value, kind, code, exponent, sign)

        posted, reserved = entry["posted_change"], entry["reserved_change"]
        if entry["verb"] == "uncollected":
            change = f"({shown(entry['amount'])} not collected)"
        else:
            change = shown(posted, sign=True) if posted else ""
        rows.append(
            (
                time,
                entry["verb"].replace("_", " "),
                entry["cause"].replace("_", " "),
                entry["bucket"],
                change,
                shown(entry["posted_after"]),
                shown(reserved, sign=True) if reserved else "",
                shown(entry["reserved_after"]),
                purpose,
                who,
                reason,
            )
        )
    return rows


def _purpose(event: Json) -> str:
    """What the event belongs to: a request of a session, or an operation with its key."""
    if event["session_id"]:
        return " ".join(filter(None, (event["session_id"], event["request"])))
    parts = [event["operation"], f"subscriber {event['subscriber']}" if event["subscriber"] else ""]
    return " ".join(filter(None, (*parts, f"key {event['key']}" if event["key"] else "")))
