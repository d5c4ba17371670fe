"""Count the instructions of the hot leaves with callgrind and compare them with those kept in the repository.

usage: python tools/check_speed.py [--update] [--json]

Instructions are the same on a busy machine as on an idle one, so that a slow-down is seen where times say nothing. They
depend on the interpreter and the processor's architecture: figures are kept for each (`bench/instructions.json`).
Exit status: 0; 1 if a case needs more instructions than it may, or has no figure; 3 if this interpreter has no figures
or valgrind is missing. `--update` writes the figures of this interpreter anew: look at the difference before you commit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import fetch_tools  # noqa: E402

FIGURES = ROOT / "bench" / "instructions.json"
TIMES = 100
TOLERANCE = 0.05
"""Share of instructions that a case may grow by: compilers and libraries differ a little."""

FOREIGN_TOLERANCE = 0.25
"""The same where only another build or micro release of the interpreter has figures: it executes more or less itself."""

TIMEOUT_S = 300


class Line(NamedTuple):
    """One case: instructions per call now, and as kept in the repository; `None`: not kept."""

    case: str
    now: int
    kept: int | None
    tolerance: float = TOLERANCE

    @property
    def change(self) -> float | None:
        """Growth as a share of what is kept."""
        return None if self.kept is None else (self.now - self.kept) / self.kept

    @property
    def verdict(self) -> str:
        """`ok`, `slower`, `faster` (beyond the tolerance: keep the new figure), or `new`."""
        if self.change is None:
            return "new"
        if self.change > self.tolerance:
            return "slower"
        return "faster" if self.change < -self.tolerance else "ok"


def main(arguments: list[str] | None = None) -> int:
    """Count, compare, print; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="write the figures of this interpreter anew")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    valgrind = fetch_tools.find("valgrind")
    if valgrind is None:
        print("valgrind is missing: `python3 tools/fetch_tools.py valgrind` fetches it", file=sys.stderr)
        return 3
    counted = count(valgrind, TIMES)
    figures: dict[str, dict[str, int]] = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    if options.update:
        figures[machine()] = counted
        FIGURES.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    name = nearest(figures)
    kept = figures.get(name)
    lines = compare(counted, kept or {}, TOLERANCE if name == machine() else FOREIGN_TOLERANCE)
    print(json.dumps([line._asdict() | {"verdict": line.verdict} for line in lines]) if options.json else table(lines))
    if kept is None:
        print(f"no figures are kept for {machine()}: --update writes them", file=sys.stderr)
        return 3
    if name != machine():
        print(f"compared with {name} ({FOREIGN_TOLERANCE:.0%} allowed): none are kept for {machine()}", file=sys.stderr)
    return status(lines, kept)


def machine() -> str:
    """Which figures count here."""
    return f"{platform.python_implementation()} {platform.python_version()} {platform.machine()}"


def nearest(figures: Mapping[str, object]) -> str:
    """The figures to compare with: our own, else those of another micro release of the same minor one."""
    if machine() in figures:
        return machine()
    release, _, rest = machine().partition(platform.python_version())
    minor = re.compile(rf"{re.escape(release)}{sys.version_info.major}\.{sys.version_info.minor}\.\d+{re.escape(rest)}")
    return next((name for name in sorted(figures) if minor.fullmatch(name)), machine())


def count(valgrind: str, times: int) -> dict[str, int]:
    """Instructions per call of each case of `bench.instructions`."""
    from bench.instructions import CASES

    # Strings hash the same, and nothing is written beside the sources.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "OCS_PURE": ""}
    with tempfile.TemporaryDirectory(prefix="ocs-speed-") as folder:
        command = [valgrind, "--quiet", "--tool=callgrind", "--dump-before=getppid"]
        command += [f"--callgrind-out-file={folder}/counted", sys.executable, "-m", "bench.instructions", str(times)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL)
        dumps = [summary(Path(f"{folder}/counted.{number}")) for number in range(1, 3 * len(CASES) + 1)]
    return {case: round((dumps[3 * place + 2] - dumps[3 * place + 1]) / times) for place, case in enumerate(CASES)}


def summary(dump: Path) -> int:
    """Instructions of one dump of callgrind."""
    found = re.search(r"^(?:summary|totals): (\d+)", dump.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{dump}: a dump of callgrind without its total")
    return int(found[1])


def compare(counted: dict[str, int], kept: dict[str, int], tolerance: float = TOLERANCE) -> list[Line]:
    """One line for each case."""
    return [Line(case, now, kept.get(case), tolerance) for case, now in counted.items()]


def status(lines: list[Line], kept: dict[str, int]) -> int:
    """1 if a case is slower, new, or kept but not counted any more."""
    gone = set(kept) - {line.case for line in lines}
    for case in sorted(gone):
        print(f"{case}: kept, but no case any more: --update", file=sys.stderr)
    return int(bool(gone) or any(line.verdict in ("slower", "new") for line in lines))


def table(lines: list[Line]) -> str:
    """For people."""
    rows = [f"{'instructions per call':32}{'now':>12}{'kept':>12}{'change':>9}"]
    for line in lines:
        kept, change = ("-", "-") if line.change is None else (f"{line.kept:,}", f"{line.change:+.1%}")
        rows.append(f"{line.case:32}{line.now:12,}{kept:>12}{change:>9}  {line.verdict}")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
