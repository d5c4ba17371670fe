"""`bench memory` and `bench pauses` on few accounts: they measure what they name, and end what they start."""

from __future__ import annotations

import json

import pytest

from bench.__main__ import main


def test_memory_is_told_by_kind_of_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "--accounts", "300", "--sessions", "300", "--requests", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["sessions"] == 300
    account, session = report["per_account"], report["per_session"]
    keys = {kind: round(one["keys"]) for kind, one in account["kinds"].items()}
    assert (keys["a"], keys["u"]) == (1, 1)
    assert keys["i"] >= 2
    assert round(session["kinds"]["s"]["keys"]) == round(session["kinds"]["l"]["keys"]) == 1
    for one in (account, session):
        staying = sum(
            kind["octets"] for name, kind in one["kinds"].items() if not name.startswith(("!outbox", "!trim"))
        )
        assert one["octets"] == pytest.approx(staying)
        assert 300 < one["octets"] < 5000
    assert account["passing_octets"] > 0


def test_pauses_of_a_worker_are_told_and_may_fail_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--accounts", "300", "--rate", "300", "--duration-s", "1", "--most-ms", "0.000001"]
    assert main(["pauses", *options, "--json"]) == 1
    output = capsys.readouterr()
    assert "FAILED a collection took" in output.err
    report = json.loads(output.out)
    assert report["accounts"] == 300
    assert report["sessions"] == 300
    assert report["turns"] > 100
    # Whether the interpreter collects in a second is its own affair.
    assert len(report["collections"]) == len(report["longest_collection_own_cpu_ms"]) == 3
    assert report["forced_collection_own_cpu_ms"] > 0
    assert report["longest_gap_own_cpu_ms"] > 0
    assert report["tracked_objects"] > 0


def test_the_table_of_memory_is_scaled_to_a_million(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from bench.memory import show

    part = {
        "octets": 1048.576,
        "passing_octets": 0,
        "used_memory_octets": 2097.152,
        "kinds": {"a": {"keys": 1.0, "octets": 1048.576}},
    }
    report = {"accounts": 10, "sessions": 5, "requests_each": 2, "rating_groups": 1}
    show(Console(width=100), {**report, "per_account": part, "per_session": part})
    text = capsys.readouterr().out
    assert text.count("account documents") == 2
    # 1048.576 octets are 1,000 MiB in a million.
    assert text.count("1,049 │         1,000") == 4
    assert text.count("2,097 │         2,000") == 2
