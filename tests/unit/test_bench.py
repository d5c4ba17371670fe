"""The benchmarks measure what they say: sound messages, the same with both codecs, and figures with their machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from balance.documents import version_of
from bench import __main__ as bench_main
from bench import measure
from bench.gy.report import compare_books, compare_sessions
from bench.micro import codec, command, documents, rules
from bench.micro.case import Case, run_case
from tools import performance


def test_both_codecs_measure_the_same_messages() -> None:
    lengths = {
        name: [(case, octets) for case, octets, _ in codec.cases(codec.load_codec(module))]
        for name, module in codec.CODECS.items()
    }
    assert lengths["compiled"] == lengths["twin"]


def test_json_carries_figures_spread_and_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_main.main(["micro", "--json", "--repeats", "2", "--repeat-s", "0.001"]) == 0
    report = json.loads(capsys.readouterr().out)
    rows = report["results"]
    assert {row["part"] for row in rows} == set(command.PARTS)
    assert {row["variant"] for row in rows if row["part"] == "codec"} == {"compiled", "twin"}
    assert {row["variant"] for row in rows if row["part"] == "store"} == {"memory", "sqlite", "redis"}
    assert all(0 < row["min_us"] <= row["median_us"] <= row["max_us"] for row in rows)
    assert report["machine"].keys() == {"processor", "cores", "kernel", "python", "tollgate_ocs"}


def test_a_table_of_one_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_main.main(["micro", "--part", "rating", "--repeats", "1", "--repeat-s", "0.001"]) == 0
    text = capsys.readouterr().out
    assert "cost of a cumulative total" in text
    assert "decode" not in text


def test_spread_is_of_the_repeats() -> None:
    spread = measure.measure(lambda: sum(range(100)), repeats=3, repeat_s=0.001)
    assert spread.repeats == 3
    assert spread.calls >= 1


def test_the_time_is_that_of_one_operation() -> None:
    one, ten = (
        run_case(Case("rules", "x", "", lambda: sum(range(2000)), operations=count), 3, 0.02).spread
        for count in (1, 10)
    )
    assert ten.min_us < one.min_us / 5
    assert ten.calls % 10 == 0


def test_the_rules_are_measured_in_a_session_that_goes_on() -> None:
    update = rules.Update(rules.account_with(7))
    for _ in range(3):
        update.step()
    money = update.account.buckets[0]
    # Ten million octets at 0.013 for each million, three times; and one more quota held.
    assert (money.debited, money.reserved) == (3 * 130_000, 130_000)


def test_documents_that_are_measured_can_be_written_and_read() -> None:
    sizes = {case.case: case.octets for case in documents.measured()}
    assert sizes["write a document: session"] > sizes["write a document: account"] > 40
    for case in documents.measured():
        result = case.call()
        assert version_of(result) if isinstance(result, bytes) else result is not None


def test_books_are_compared_to_the_micro_unit() -> None:
    before = [(1000, 0), (1000, 0), (1000, 7)]
    right = compare_books(before, [(900, 0), (1000, 0), (999, 7)], [100, 0, 1], str)
    assert right == (3, 101, (), 0)
    wrong = compare_books(before, [(901, 0), (1000, 5), (998, 7)], [100, 0, 1], str)
    assert wrong.wrong == (
        "account 0: balance 901, expected 900: +1 micro-units",
        "account 1: 5 micro-units reserved, expected 0",
        "account 2: balance 998, expected 999: -1 micro-units",
    )


def test_sessions_are_compared_to_the_micro_unit() -> None:
    expected = [("a;1", 100), ("a;2", 0), ("a;3", 7)]
    assert compare_sessions(expected, [100, 0, 7]) == []
    assert compare_sessions(expected, [100, 1, 6]) == [
        "session a;2: cost 1, expected 0: +1 micro-units",
        "session a;3: cost 6, expected 7: -1 micro-units",
    ]


def test_every_option_of_the_page_exists_and_every_option_is_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        bench_main.main(["gy", "--help"])
    option = re.compile(r"--[a-z][a-z-]+")
    known = set(option.findall(capsys.readouterr().out))
    page = Path(__file__).resolve().parents[2] / "docs" / "operate" / "load-testing.md"
    named = set(option.findall(page.read_text(encoding="utf-8")))
    assert named - known == {"--url"}  # of bench.store
    # What only --help says.
    assert known - named == {
        "--help", "--origin-realm", "--destination-host", "--service-context", "--seed", "--quiet"
    }  # fmt: skip


def test_the_page_of_performance_is_written_from_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = {"processor": "Abacus", "cores": 2, "kernel": "Linux 1", "python": "3.11", "tollgate_ocs": "9"}
    one = {"min": 1.5, "median": 2.25, "max": 1234.5}
    names = ["answers_per_s", "latency_p50_ms", "latency_p99_ms", "latency_p99.9_ms"]
    names += [f"cpu_us_per_answer {name}" for name in ("worker 0", "worker 1", "redis", "generator")]
    summary = {"tollgate-ocs": dict.fromkeys(names, one), "reference": dict.fromkeys(names, one)}
    ratio = {"answers_per_s": 20.04, "cpu_us_per_answer": 0.05}
    result = {"machine": machine, "summary": summary, "ratio_to_reference": ratio}
    monkeypatch.setattr(performance, "RESULTS", tmp_path)
    page = performance.PAGE.read_text(encoding="utf-8")
    assert "No run of this release is recorded yet." in performance.page_with(page, performance.table())
    (tmp_path / "closed.json").write_text(json.dumps(result))
    written = performance.page_with(page, performance.table())
    assert "Machine: Abacus, 2 cores" in written
    cell = "2.25 (1.50–1,234)"
    both = "4.50 (3.00–2,469)"
    row = [cell, cell, cell, cell, both, cell, cell]
    assert "| " + " | ".join(["one worker, Redis `fast`", *row]) + " |" in written
    assert "20.0 times the answers, at 1/20 of the CPU time each." in written
    assert performance.page_with(written, performance.table()) == written
    with pytest.raises(ValueError, match="marks"):
        performance.page_with("no marks", "x")


def test_no_repeats_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench_main.main(["micro", "--repeats", "0"])
    assert "--repeats" in capsys.readouterr().err
