"""`ocs serve` that watches itself: how long its loop and its garbage collections stood in the way.

    OCS_WATCH_FILE=FILE python -m bench.watched_serve

serves like `ocs serve`. SIGUSR1 begins a new count; SIGUSR2 collects all garbage at once, as the interpreter may at any
time; either way, and when the server ends, the counts are written to FILE as JSON. The loop is asked for a turn every
millisecond; what it comes late is a pause. The processor time of a pause tells the process's own doing from that of its
neighbours on the machine.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

TURN_S = 0.001
NS_PER_MS = 1e6


class Watch:
    """Counts of one process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._loop: Any = None
        self._collecting = (0, 0)
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.turns = 0
        self.longest_gap_ns = 0
        self.longest_own_ns = 0
        """Longest processor time of the loop's thread between two turns."""
        self.collections = [0, 0, 0]
        self.longest_collection_ns = [0, 0, 0]
        self.longest_collection_own_ns = [0, 0, 0]
        self.forced_ns = 0
        self.forced_own_ns = 0
        self._last = self._clocks()

    # The loop

    def take(self, loop: Any) -> None:
        """Watch a loop that is about to run."""
        self._loop = loop
        loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._loop.add_signal_handler(signal.SIGUSR1, self._anew)
        self._loop.add_signal_handler(signal.SIGUSR2, self._force)
        self._last = self._clocks()
        self._write()
        self._loop.call_later(TURN_S, self._turn)

    def _turn(self) -> None:
        now = self._clocks()
        self.turns += 1
        self.longest_gap_ns = max(self.longest_gap_ns, now[0] - self._last[0] - int(TURN_S * 1e9))
        self.longest_own_ns = max(self.longest_own_ns, now[1] - self._last[1])
        self._last = now
        self._loop.call_later(TURN_S, self._turn)

    def _anew(self) -> None:
        self._write()
        self.reset()

    def _force(self) -> None:
        wall_ns, own_ns = self._clocks()
        gc.collect()
        after = self._clocks()
        self.forced_ns, self.forced_own_ns = after[0] - wall_ns, after[1] - own_ns
        # Its gap is told apart.
        self._last = after
        self._write()

    # Collections

    def collected(self, phase: str, facts: dict[str, int]) -> None:
        """What the interpreter calls before and after each collection."""
        if phase == "start":
            self._collecting = self._clocks()
            return
        now, generation = self._clocks(), facts["generation"]
        self.collections[generation] += 1
        took_ns, own_ns = now[0] - self._collecting[0], now[1] - self._collecting[1]
        self.longest_collection_ns[generation] = max(self.longest_collection_ns[generation], took_ns)
        self.longest_collection_own_ns[generation] = max(self.longest_collection_own_ns[generation], own_ns)

    @staticmethod
    def _clocks() -> tuple[int, int]:
        return time.monotonic_ns(), time.thread_time_ns()

    def _write(self) -> None:
        """Write the counts, whole or not at all."""
        counts = {
            "turns": self.turns,
            "longest_gap_ms": self.longest_gap_ns / NS_PER_MS,
            "longest_gap_own_cpu_ms": self.longest_own_ns / NS_PER_MS,
            "collections": self.collections,
            "longest_collection_ms": [one / NS_PER_MS for one in self.longest_collection_ns],
            "longest_collection_own_cpu_ms": [one / NS_PER_MS for one in self.longest_collection_own_ns],
            "forced_collection_ms": self.forced_ns / NS_PER_MS,
            "forced_collection_own_cpu_ms": self.forced_own_ns / NS_PER_MS,
            "tracked_objects": len(gc.get_objects()) if self.forced_ns else 0,
            "frozen_objects": gc.get_freeze_count(),
        }
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(counts))
        part.replace(self._file)

    def end(self) -> None:
        """The last counts."""
        self._write()


def main() -> int:
    """Serve, watched."""
    watch = Watch(Path(os.environ["OCS_WATCH_FILE"]))
    new_event_loop = uvloop.new_event_loop

    def watched_loop() -> Any:
        loop = new_event_loop()
        watch.take(loop)
        return loop

    uvloop.new_event_loop = watched_loop
    gc.callbacks.append(watch.collected)
    from ocs.cli.main import main as ocs

    sys.argv = ["ocs", "serve"]
    with contextlib.suppress(SystemExit):
        ocs()
    gc.callbacks.remove(watch.collected)
    watch.end()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
