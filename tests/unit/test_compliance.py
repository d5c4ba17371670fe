"""The compliance page: ids are read from tests as promised, and what is missing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import compliance

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("test_db_043_length_below_header_is_5014", ["DB-043"]),
        ("test_cc_071_and_072_report_releases", ["CC-071", "CC-072"]),
        ("test_db_043_044_lengths", ["DB-043", "DB-044"]),
        ("test_db_043_cc_009_across_documents", ["DB-043", "CC-009"]),
        ("test_s01_start_update_stop", ["S01"]),
        ("test_f24_s01_both", ["F24", "S01"]),
        ("test_f24", ["F24"]),
        ("test_s11_100_repeats", ["S11"]),
        ("test_5001_is_answered", []),
        ("test_money_as_in_s01", []),
        ("test_db_0431_is_no_id", []),
    ],
)
def test_ids_stand_at_the_head_of_a_name(name: str, ids: list[str]) -> None:
    assert compliance.ids_in_name(name) == ids


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one row that is required, one that is not, and one scenario; no tests yet."""
    folder = tmp_path / "docs" / "requirements"
    folder.mkdir(parents=True)
    for name in compliance.SOURCES:
        (folder / name).write_text("", encoding="utf-8")
    rows = "| DB-001 P1 | Accept TCP. | - |\n| DB-002 P3 | SCTP. | - |\n"
    (folder / "diameter-base.md").write_text(rows, encoding="utf-8")
    (folder / "scenarios.md").write_text("## S01 Prepaid data\n", encoding="utf-8")
    for name in ("unit", "integration"):
        (tmp_path / "tests" / name).mkdir(parents=True)
    return tmp_path


def test_required_ids_without_a_test_fail(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compliance.main(["--check-required"], project) == 1
    complaints = capsys.readouterr().err
    assert "DB-001" in complaints
    assert "DB-002" not in complaints


def test_a_marker_and_a_name_both_count(project: Path) -> None:
    text = '@pytest.mark.proves("DB-001")\ndef test_connect():\n    pass\n\n\nasync def test_s01_session():\n    pass\n'
    (project / "tests" / "integration" / "test_it.py").write_text(text, encoding="utf-8")
    assert compliance.main(["--check-required"], project) == 0


def test_a_scenario_counts_only_when_played_against_the_server(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = '@pytest.mark.proves("DB-001", "S01")\ndef test_pure():\n    pass\n'
    (project / "tests" / "unit" / "test_it.py").write_text(text, encoding="utf-8")
    assert compliance.main(["--check-required"], project) == 1
    assert capsys.readouterr().err.startswith("S01")


def test_an_old_page_fails_and_a_new_one_passes(project: Path) -> None:
    assert compliance.main(["--check"], project) == 1
    assert compliance.main([], project) == 0
    assert compliance.main(["--check"], project) == 0


def test_an_id_that_no_document_has_fails(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "tests" / "unit" / "test_it.py").write_text("def test_db_999_x():\n    pass\n", encoding="utf-8")
    assert compliance.main([], project) == 0
    assert compliance.main(["--check"], project) == 1
    assert "DB-999" in capsys.readouterr().err


def test_every_end_of_a_required_span_is_a_row() -> None:
    folder = ROOT / "docs" / "requirements"
    known = {row.id for name in compliance.SOURCES for row in compliance.read_rows(folder / name)}
    named = {end for span in compliance.REQUIRED for end in span.split("…")} | compliance.LATER
    assert named <= known
