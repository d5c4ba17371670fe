"""The benchmark measures what it says: sound messages, the same with both codecs, and figures with their machine."""

from __future__ import annotations

import json

import pytest

from bench import __main__ as bench_main
from bench import measure, micro


def test_both_codecs_measure_the_same_messages() -> None:
    lengths = {
        name: [(case, octets) for case, octets, _ in micro.cases(micro.load_codec(module))]
        for name, module in micro.CODECS.items()
    }
    assert lengths["compiled"] == lengths["twin"]


def test_json_carries_figures_spread_and_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_main.main(["micro", "--json", "--repeats", "2", "--repeat-s", "0.001"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {row["codec"] for row in report["results"]} == {"compiled", "twin"}
    assert all(0 < row["min_us"] <= row["median_us"] <= row["max_us"] for row in report["results"])
    assert report["machine"].keys() == {"processor", "cores", "kernel", "python", "tollgate_ocs"}


def test_spread_is_of_the_repeats() -> None:
    spread = measure.measure(lambda: sum(range(100)), repeats=3, repeat_s=0.001)
    assert spread.repeats == 3
    assert spread.calls >= 1


def test_no_repeats_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench_main.main(["micro", "--repeats", "0"])
    assert "--repeats" in capsys.readouterr().err
