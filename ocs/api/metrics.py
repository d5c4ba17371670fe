"""Metrics in the text format of Prometheus, gathered at the scrape: the charging path only counts plain integers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ocs.api.runtime import Runtime
from ocs.charging.requests import RequestKind

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9_]")

_ENGINE = {
    "repeats": "Requests that were answered from a stored outcome",
    "altered_repeats": "Repeats whose content differs from the original's",
    "forgotten_repeats": "Repeats whose outcome is no longer kept",
    "orphans": "Usage reported for sessions that are not open",
}

_CONDUCTOR = {
    "conflicts": "Commits that lost against another one and were computed again",
    "read_backs": "Commits of unknown outcome that were read back",
}


class _RuntimeCollector(Collector):
    """Reads the counters of one process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterable[Metric]:
        """The families, as Prometheus calls them."""
        engine = self._runtime.engine
        answers = CounterMetricFamily(
            "ocs_answers", "Answers of charging by kind of request and result", labels=("request", "result")
        )
        for (kind, result), count in engine.counters.results.items():
            answers.add_metric((RequestKind(kind).name.lower(), result), count)
        yield answers
        for name, text in _ENGINE.items():
            yield CounterMetricFamily(f"ocs_{name}", text, value=getattr(engine.counters, name))
        for name, text in _CONDUCTOR.items():
            yield CounterMetricFamily(f"ocs_{name}", text, value=getattr(engine.conductor, name))
        yield GaugeMetricFamily(
            "ocs_catalogue_version", "Version of the current catalogue", value=engine.catalogues.current.version
        )
        for name, value in sorted(self._runtime.numbers().items()):
            yield GaugeMetricFamily(f"ocs_{_NOT_IN_A_NAME.sub('_', name)}", name.replace("_", " "), value=value)
        yield from self._runtime.families()


def exposition(runtime: Runtime) -> str:
    """The text that a scrape gets."""
    registry = CollectorRegistry()
    registry.register(_RuntimeCollector(runtime))
    return generate_latest(registry).decode()
