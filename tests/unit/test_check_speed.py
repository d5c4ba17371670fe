"""The comparison of instruction counts: what is slower is seen, and nothing is passed over in silence."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import pytest

from bench import instructions, message_path
from protocols.diameter import dictionary as d
from protocols.diameter.avp import decode_message, first, whole_messages
from tools import check_speed, fetch_tools


@pytest.fixture
def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Figures of the repository in a file of the test's own; every count is 1,000."""
    monkeypatch.setattr(check_speed, "FIGURES", tmp_path / "figures.json")
    monkeypatch.setattr(check_speed, "count", lambda _valgrind, _times: dict.fromkeys(("one", "other"), 1000))
    monkeypatch.setattr(fetch_tools, "find", lambda _name: "/usr/bin/valgrind")
    return tmp_path / "figures.json"


@pytest.mark.parametrize(
    ("kept", "status", "verdict"),
    [
        (1000, 0, "ok"),
        (953, 0, "ok"),
        (952, 1, "slower"),
        (500, 1, "slower"),
        (1052, 0, "ok"),
        (1060, 0, "faster"),
        (None, 1, "new"),
    ],
)
def test_a_case_may_grow_by_the_tolerance(
    figures: Path, capsys: pytest.CaptureFixture[str], kept: int | None, status: int, verdict: str
) -> None:
    of_one = {} if kept is None else {"one": kept}
    figures.write_text(json.dumps({check_speed.machine(): {**of_one, "other": 1000}}))
    assert check_speed.main(["--json"]) == status
    one, other = json.loads(capsys.readouterr().out)
    assert (one["case"], one["now"], one["kept"], one["verdict"]) == ("one", 1000, kept, verdict)
    assert other["verdict"] == "ok"


def test_a_case_that_is_kept_and_no_longer_counted_is_told(figures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures.write_text(json.dumps({check_speed.machine(): {"one": 1000, "other": 1000, "gone": 7}}))
    assert check_speed.main([]) == 1
    assert "gone: kept, but no case any more" in capsys.readouterr().err


def test_without_figures_of_this_interpreter_nothing_is_called_good(figures: Path) -> None:
    figures.write_text(json.dumps({"CPython 2.7 vax": {"one": 1000, "other": 1000}}))
    assert check_speed.main([]) == 3


def test_update_keeps_the_figures_of_other_interpreters(figures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures.write_text(json.dumps({"CPython 2.7 vax": {"one": 5}}))
    assert check_speed.main(["--update"]) == 0
    mine = {check_speed.machine(): {"one": 1000, "other": 1000}}
    assert json.loads(figures.read_text()) == {"CPython 2.7 vax": {"one": 5}, **mine}
    assert "+0.0%" in capsys.readouterr().out


def test_a_missing_valgrind_is_a_missing_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_tools, "find", lambda _name: None)
    assert check_speed.main([]) == 3


def test_the_total_of_a_dump_is_read(tmp_path: Path) -> None:
    dump = tmp_path / "counted.1"
    dump.write_text("version: 1\nevents: Ir\nsummary: 123456\n\nfn=(1) main\n5 7\n")
    assert check_speed.summary(dump) == 123456
    dump.write_text("version: 1\n")
    with pytest.raises(ValueError, match=r"counted\.1"):
        check_speed.summary(dump)


def test_figures_are_kept_for_every_case() -> None:
    for kept in json.loads(check_speed.FIGURES.read_text(encoding="utf-8")).values():
        assert set(kept) == set(instructions.CASES)


@pytest.mark.parametrize("case", instructions.CASES)
def test_a_case_does_the_same_work_each_time(case: str) -> None:
    call = instructions.CASES[case]()
    assert repr(call())
    instructions.repeat(call, 3)


def test_the_message_path_answers_every_request_of_a_read() -> None:
    path = message_path.MessagePath()
    (written,) = path.exchange(message_path.update_of_a_gateway() * 3)
    answers, rest = whole_messages(written, 0, 1 << 20)
    assert (len(answers), rest) == (3, len(written))
    assert [first(decode_message(one).avps, d.RESULT_CODE) for one in answers] == [2001] * 3


def test_another_micro_release_is_compared_with_a_wider_tolerance(figures: Path) -> None:
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    other = check_speed.machine().replace(platform.python_version(), f"{minor}.99")
    strange = check_speed.machine().replace(platform.python_version(), "3.99.0")
    figures.write_text(json.dumps({strange: {"one": 1, "other": 1}, other: {"one": 1000, "other": 850}}))
    assert check_speed.main([]) == 0  # 1000 for 850 is 18 % more
    figures.write_text(json.dumps({other: {"one": 1000, "other": 700}}))
    assert check_speed.main([]) == 1
