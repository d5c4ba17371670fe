"""`ocs status`, `ocs workers`, `ocs metrics` and `ocs clock`: what concerns every worker and not any one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocs.cli.options import AsJson, Config, config_of

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from ocs.cli.connection import Api

Json = dict[str, Any]

clock = typer.Typer(no_args_is_help=True, help="The time by which is charged; it is stepped on a test clock only.")


def register(root: typer.Typer) -> None:
    """Put the commands beside the groups."""
    root.command()(status)
    root.command()(workers)
    root.command()(metrics)
    root.add_typer(clock, name="clock")


def status(config: Config = None, as_json: AsJson = False) -> None:
    """Show the workers: where each listens and what it has done. Status 1 if one does not answer, 3 if none does."""
    from ocs.cli.connection import ask_workers, settings_of
    from ocs.cli.errors import REFUSED, UNAVAILABLE
    from ocs.cli.output import print_json

    settings = settings_of(config_of(config))
    told = ask_workers(settings, "/v1/status")
    workers: list[Json] = []
    for number, (path, text) in enumerate(zip(settings.socket_paths(), told, strict=True)):
        found: Json = {} if text is None else json.loads(text)
        workers.append({"worker": number, "running": text is not None, "socket": str(path), **found})
    if as_json:
        print_json({"workers": workers, "running": sum(one["running"] for one in workers), "count": len(workers)})
    else:
        _show(workers)
    if not all(one["running"] for one in workers):
        raise typer.Exit(REFUSED if any(one["running"] for one in workers) else UNAVAILABLE)


def _show(workers: Sequence[Json]) -> None:
    from ocs.cli.output import amount, table

    columns = (
        ">worker",
        "state",
        ">pid",
        "id",
        "up",
        "diameter",
        ">connections",
        ">requests",
        ">in flight",
        ">sessions",
    )
    rows = []
    for one in workers:
        if not one["running"]:
            rows.append((one["worker"], "does not answer", "", "", "", "", "", "", "", ""))
            continue
        diameter = ", ".join(listener["address"] for listener in one["listeners"] if listener["name"] == "diameter")
        rows.append(
            (
                one["worker"],
                "serves",
                one["pid"],
                one["worker_id"],
                amount(one["uptime_s"], "seconds"),
                diameter or "none",
                one["connections"],
                f"{sum(one['requests'].values()):,}",
                one["in_flight"],
                f"{one['sessions_begun']:,} begun, {one['sessions_ended']:,} ended",
            )
        )
    table(columns, rows)


def workers(config: Config = None, as_json: AsJson = False) -> None:
    """Show the workers of the whole store, on whatever host, and which of them holds which gateway."""
    from ocs.cli.connection import run
    from ocs.cli.output import print_json

    found: Json = run(config_of(config), lambda api: api.get("/v1/workers"))
    print_json(found) if as_json else _show_store(found)


def _show_store(found: Json) -> None:
    from ocs.cli.output import line, moment, table

    rows = []
    for one in found["workers"]:
        catalogue = one["catalogue"]
        failed = ", ".join(str(failure["version"]) for failure in catalogue["failed"])
        rows.append(
            (
                one["worker"],
                one["host"],
                one["pid"],
                one["worker_id"],
                moment(one["started_s"]),
                ("serves" if one["sweeping"] else "serves, does not sweep") if one["serving"] else "starts",
                ", ".join(listener["address"] for listener in one["listeners"] if listener["name"] == "diameter"),
                len(one["peers"]),
                f"{catalogue['current']}" + (f"; cannot load {failed}" if failed else ""),
            )
        )
    columns = (">worker", "host", ">pid", "id", "started", "state", "diameter", ">peers", "catalogue")
    table(columns, rows)
    if found["peers"]:
        line()
        held = [
            (peer["origin_host"], ", ".join(f"{one['worker']} ({one['connections']})" for one in peer["workers"]))
            for peer in found["peers"]
        ]
        table(("peer", "workers (connections)"), held)


def metrics(config: Config = None) -> None:
    """Print the metrics of all workers that answer, each with its number as the label `worker`, for Prometheus."""
    from ocs.cli.connection import ask_workers, settings_of
    from ocs.cli.errors import Unavailable

    told = ask_workers(settings_of(config_of(config)), "/v1/metrics")
    texts = {number: text for number, text in enumerate(told) if text is not None}
    if not texts:
        raise Unavailable("no worker answers")
    sys.stdout.write(merged_metrics(texts, len(told)))


def merged_metrics(texts: Mapping[int, str], count: int) -> str:
    """One exposition of the texts of several workers, and how many of `count` answered."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.parser import text_string_to_metric_families
    from prometheus_client.registry import Collector
    from prometheus_client.samples import Sample

    # By name and type: a counter's name without its `_total` may be that of a gauge.
    families: dict[tuple[str, str], Metric] = {}
    for worker, text in texts.items():
        for family in text_string_to_metric_families(text):
            samples = [
                Sample(one.name, {**one.labels, "worker": str(worker)}, one.value, one.timestamp, one.exemplar)
                for one in family.samples
            ]
            known = families.setdefault((family.name, family.type), family)
            known.samples = samples if known is family else known.samples + samples
    up = GaugeMetricFamily("ocs_worker_up", "Whether the worker answered", labels=("worker",))
    for worker in range(count):
        up.add_metric((str(worker),), int(worker in texts))

    class Merged(Collector):
        def collect(self) -> Iterable[Metric]:
            return [*families.values(), up]

    registry = CollectorRegistry()
    registry.register(Merged())
    return generate_latest(registry).decode()


@clock.command("show")
def show_clock(config: Config = None, as_json: AsJson = False) -> None:
    """Show the time of every worker."""
    from ocs.cli.connection import run_on_workers, settings_of

    _print_clocks(run_on_workers(settings_of(config_of(config)), _clocks), as_json)


@clock.command("advance")
def advance_clock(
    seconds: Annotated[int, typer.Argument(metavar="SECONDS", min=1, help="How far.")],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Step the test clock of every worker by the same time; what becomes due is done when this returns."""
    from ocs.cli.connection import run_on_workers, settings_of

    async def advance(apis: Sequence[Api]) -> list[Json]:
        latest_us = max(one["now_us"] for one in await _clocks(apis))
        found = []
        for api in apis:
            # One that was started later may be behind; all clocks start at whole seconds.
            behind_s = (latest_us - (await api.get("/v1/clock"))["now_us"]) // 1_000_000
            found.append(await api.post("/v1/clock/advance", {"seconds": seconds + behind_s}))
        return found

    _print_clocks(run_on_workers(settings_of(config_of(config)), advance), as_json)


async def _clocks(apis: Sequence[Api]) -> list[Json]:
    return [await api.get("/v1/clock") for api in apis]


def _print_clocks(clocks: Sequence[Json], as_json: bool) -> None:
    from ocs.cli.output import moment_us, print_json, table

    if as_json:
        print_json({"workers": [{"worker": number, **one} for number, one in enumerate(clocks)]})
        return
    rows = [
        (
            number,
            moment_us(one["now_us"]),
            "stepped by hand" if one["stepped"] else "passes by itself",
            one.get("swept", ""),
        )
        for number, one in enumerate(clocks)
    ]
    table((">worker", "time", "passes", ">items done"), rows)
