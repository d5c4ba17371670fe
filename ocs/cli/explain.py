"""A session told request by request: the tariff, the rounding in words, the buckets, the money before and after."""

from __future__ import annotations

from typing import Any

from ocs.cli.output import amount, facts, line, moment, moment_us

Json = dict[str, Any]


class Explanation:
    """One answer of `explain`, in sentences."""

    def __init__(self, found: Json) -> None:
        self._found = found
        self._code, self._exponent = found["currency_code"], found["exponent"]

    def heading(self) -> list[tuple[str, object]]:
        """What the session is and how it stands."""
        found, summary = self._found, self._found["summary"]
        pairs: list[tuple[str, object]] = [("session", found["session"]), ("account", found["account"])]
        if summary is None:
            return [*pairs, ("state", "closed, no longer kept; what follows is its ledger")]
        closed = f" ({summary['close_cause']}, {moment(summary['closed_s'])})" if summary["closed_s"] else ""
        return [
            *pairs,
            ("subscriber", summary["subscriber"]),
            ("peer", summary["peer"]),
            ("service context", summary["service_context"]),
            ("plan", summary["plan"]),
            ("state", f"{summary['state']}{closed}"),
            ("opened", moment(summary["opened_s"])),
            ("cost so far", self._money(summary["cost_micros"])),
        ]

    def event(self, event: Json) -> list[str]:
        """One request, or what happened without one: a headline, then a line for each fact."""
        what = event["request"] or event["kind"]
        lines = [f"{moment_us(event['at_us'])}  {what}: {event['result'] or event['close_cause'] or 'done'}"]
        if event["event_time_us"]:
            lines.append(f"  happened at {moment_us(event['event_time_us'])} by the client's clock")
        if event["reason"]:
            lines.append(f"  {event['reason']}")
        for usage in event["usage"]:
            lines += [f"  {text}" for text in self._usage(usage)]
        lines += [f"  {text}" for text in self._balances(event["entries"])]
        if event["close_cause"]:
            lines.append(f"  the session is closed: {event['close_cause']}")
        return lines

    def _usage(self, usage: Json) -> list[str]:
        lines = [f"{_key(usage)}: {usage['result']}" + (f": {usage['why']}" if usage["why"] else "")]
        tariff = self._found["tariffs"].get(f"{usage['catalogue_version']}/{usage['tariff']}")
        if usage["tariff"]:
            price = f", {tariff['text']}" if tariff else ""
            lines.append(f"  tariff {usage['tariff']} of catalogue version {usage['catalogue_version']}{price}")
        if usage["used"] or usage["billed"] or usage["debited_micros"]:
            lines += [f"  {text}" for text in self._charge(usage, tariff)]
        for kind, units in usage["unrated"]:
            lines.append(f"  reported and only recorded, the tariff does not price it: {self._unrated(kind, units)}")
        if usage["granted"]:
            held = f", {self._money(usage['reserved_micros'])} reserved" if usage["reserved_micros"] else ""
            final = ", the final one: the money ends here" if usage["final"] else ""
            lines.append(f"  granted {amount(usage['granted'], usage['unit'])}{held}{final}")
        elif usage["final"]:
            lines.append("  no quota is left: the final action is ordered")
        return lines

    def _charge(self, usage: Json, tariff: Json | None) -> list[str]:
        unit = usage["unit"]
        lines = [f"used {amount(usage['used'], unit)}"]
        if usage["billed"] != usage["used"]:
            lines.append(f"billed {amount(usage['billed'], unit)} after rounding to started steps over the session")
        for bucket, units in usage["from_buckets"]:
            lines.append(f"from bucket {bucket}: {amount(units, unit)}")
        if usage["money_units"]:
            lines.append(self._rounding(usage, tariff))
        elif usage["used"] and not usage["from_buckets"]:
            lines.append("within what was billed before: nothing more to pay")
        if usage["over_use_units"]:
            cost = self._money(usage["over_use_micros"])
            lines.append(f"beyond the grant: {amount(usage['over_use_units'], unit)}, {cost} of the charge")
        return lines

    def _rounding(self, usage: Json, tariff: Json | None) -> str:
        """How many started steps the session's total makes, before and now: reports never round twice."""
        unit, now = usage["unit"], usage["money_units_total"]
        charged = self._money(usage["debited_micros"])
        if tariff is None:
            return f"money pays for {amount(usage['money_units'], unit)}: {charged}"
        step = tariff["step"]
        steps_now, steps_before = _steps(now, step), _steps(now - usage["money_units"], step)
        size = amount(step, unit)
        started = f"{steps_now:,} started step{'' if steps_now == 1 else 's'} of {size}"
        return (
            f"money pays for {amount(usage['money_units'], unit)}; in all {amount(now, unit)}, rounded up to {started}, "
            f"{steps_before:,} of them paid before: {charged}"
        )

    def _unrated(self, kind: int, units: int) -> str:
        names = ("money", "octets", "seconds", "events")
        return self._amount(units, names[kind])

    def _balances(self, entries: list[Json]) -> list[str]:
        """For each bucket that moved: posted and reserved before and after."""
        first: dict[int, tuple[int, int]] = {}
        last: dict[int, Json] = {}
        lines = []
        for entry in entries:
            before = (
                entry["posted_after"] - entry["posted_change"],
                entry["reserved_after"] - entry["reserved_change"],
            )
            first.setdefault(entry["bucket"], before)
            last[entry["bucket"]] = entry
            if entry["verb"] == "uncollected":
                lines.append(f"not collected, below the floor: {self._amount(entry['amount'], entry['kind'])}")
        for bucket, entry in last.items():
            posted, reserved = first[bucket]
            kind = entry["kind"]
            lines.append(
                f"bucket {bucket}: {self._amount(posted, kind)} -> {self._amount(entry['posted_after'], kind)}"
                f", reserved {self._amount(reserved, kind)} -> {self._amount(entry['reserved_after'], kind)}"
            )
        return lines

    def _amount(self, value: int, kind: str) -> str:
        return amount(value, kind, self._code, self._exponent)

    def _money(self, micros: int) -> str:
        return self._amount(micros, "money")


def _key(usage: Json) -> str:
    parts = []
    if usage["rating_group"] is not None:
        parts.append(f"rating group {usage['rating_group']}")
    if usage["service_identifiers"]:
        parts.append("service " + ", ".join(map(str, usage["service_identifiers"])))
    return ", ".join(parts) or "the session's only key"


def _steps(units: int, step: int) -> int:
    """Started steps, for showing only: what is charged was computed by the tariff."""
    return -(-units // step)


def print_explanation(found: Json) -> None:
    """The whole session."""
    told = Explanation(found)
    facts(told.heading())
    for event in found["events"]:
        line()
        headline, *rest = told.event(event)
        line(headline, style="bold")
        for text in rest:
            line(text)
