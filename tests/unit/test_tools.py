"""The commands of a clone say what is missing, and with which status."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import fetch_tools, prerequisites


@pytest.fixture
def nothing_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_tools, "provide", lambda name: False)
    monkeypatch.delenv("ALLOW_MISSING", raising=False)


@pytest.mark.usefixtures("nothing_found")
def test_a_missing_tool_is_listed_and_is_status_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_tools.main(["tshark"]) == 3
    assert "missing: tshark: apt install tshark" in capsys.readouterr().out


@pytest.mark.usefixtures("nothing_found")
@pytest.mark.parametrize(("allowed", "status"), [("tshark", 0), ("other, tshark", 0), ("other", 3), ("", 3)])
def test_allow_missing_names_what_may_be_missing(monkeypatch: pytest.MonkeyPatch, allowed: str, status: int) -> None:
    monkeypatch.setenv("ALLOW_MISSING", allowed)
    assert fetch_tools.main(["tshark"]) == status


def test_a_tool_that_does_not_work_is_missing(tmp_path: Path) -> None:
    """A tshark that runs and knows no Diameter command is no witness."""
    silent = tmp_path / "tshark"
    silent.write_text("#!/bin/sh\ncat >/dev/null\n", encoding="utf-8")
    silent.chmod(0o755)
    assert not fetch_tools.tshark_works(str(silent))
    assert not fetch_tools.tshark_works(str(tmp_path / "nonesuch"))


def test_a_machine_without_apt_cannot_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(fetch_tools, "ROOT", tmp_path / ".tools")
    assert not fetch_tools.provide("tshark")


def test_a_redis_server_that_does_not_start_is_missing(tmp_path: Path) -> None:
    """A link without its target, a binary without its libraries, a server that is too old."""
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 127\n", encoding="utf-8")
    broken.chmod(0o755)
    assert not fetch_tools.redis_server_works(str(broken))
    assert not fetch_tools.redis_server_works(str(tmp_path / "nonesuch"))


def test_a_broken_tool_on_the_path_does_not_hide_the_unpacked_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = fetch_tools.find("redis-server")
    assert good is not None
    for folder, text in (("path", "#!/bin/sh\nexit 127\n"), ("bin", f'#!/bin/sh\nexec {good} "$@"\n')):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "redis-server").write_text(text, encoding="utf-8")
        (tmp_path / folder / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    monkeypatch.setattr(fetch_tools, "ROOT", tmp_path)
    assert fetch_tools.find("redis-server") == str(tmp_path / "bin" / "redis-server")


def test_what_a_build_lacks_is_listed_with_its_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "nonesuch")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    assert prerequisites.main() == 3
    listed = capsys.readouterr().out
    assert "a C compiler: apt install gcc libc6-dev" in listed
    assert "Python's headers: apt install python3-dev" in listed
    assert "venv" not in listed


def test_this_machine_can_build() -> None:
    assert prerequisites.main() == 0
