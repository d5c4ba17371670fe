"""What the command line makes of the answers of several workers."""

from __future__ import annotations

from ocs.cli.doctor import _differences, _told_by_whom
from ocs.cli.workers import merged_metrics

FIRST = """# HELP ocs_late late
# TYPE ocs_late gauge
ocs_late 3.0
# HELP ocs_late_total late
# TYPE ocs_late_total counter
ocs_late_total{peer="gw1"} 2.0
# HELP ocs_answers_total Answers
# TYPE ocs_answers_total counter
ocs_answers_total{request="initial",result="success"} 7.0
"""
SECOND = """# HELP ocs_answers_total Answers
# TYPE ocs_answers_total counter
ocs_answers_total{request="initial",result="success"} 5.0
# HELP ocs_other Only here
# TYPE ocs_other gauge
ocs_other 1.0
"""


def test_metrics_of_all_workers_carry_their_numbers() -> None:
    lines = merged_metrics({0: FIRST, 2: SECOND}, 3).splitlines()
    assert sorted(line for line in lines if not line.startswith("#")) == [
        'ocs_answers_total{request="initial",result="success",worker="0"} 7.0',
        'ocs_answers_total{request="initial",result="success",worker="2"} 5.0',
        'ocs_late_total{peer="gw1",worker="0"} 2.0',
        'ocs_late{worker="0"} 3.0',
        'ocs_other{worker="2"} 1.0',
        'ocs_worker_up{worker="0"} 1.0',
        'ocs_worker_up{worker="1"} 0.0',
        'ocs_worker_up{worker="2"} 1.0',
    ]
    # The text format allows each name one type line, before all of its samples.
    types = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert sorted(types) == ["ocs_answers_total", "ocs_late", "ocs_late_total", "ocs_other", "ocs_worker_up"]


def test_a_sentence_of_all_workers_is_told_once_and_others_with_who_says_them() -> None:
    told = _told_by_whom({0: ["all say this"], 1: ["all say this", "two"], 2: ["two", "all say this", "one"]})
    assert told == ["all say this", "worker 1, 2: two", "worker 2: one"]


def test_workers_that_differ_are_a_sentence() -> None:
    states = {0: {"version": "1.0"}, 1: {"version": "1.1"}}
    assert _differences({0: states[0]}, "version", lambda state: str(state["version"])) == []
    assert _differences({0: states[0], 1: states[0]}, "version", lambda state: str(state["version"])) == []
    assert _differences(states, "version", lambda state: str(state["version"])) == [
        "workers differ in their version: 1.0 in worker 0, 1.1 in worker 1"
    ]
