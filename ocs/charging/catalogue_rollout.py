"""A catalogue version on its way into every worker: loaded by all, then current for all at the same time (LEDGER §11).

    publish        the text is a version of the store; the pointer names it as published
    each worker    reads the pointer several times a second, compiles what it has not, says so in its registry entry
    activate       once every worker that lives has it: the pointer makes it current at a time half a second ahead
    each worker    switches at that time

A worker that cannot compile it, and so could not charge a session that another opens under it, keeps it from becoming
current. A dead one does so until its lease ends. A process that starts enters the registry first and loads then, so it
is waited for; it listens last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ocs.charging.catalogue_store import CataloguePointer, CatalogueText, read_pointer, read_texts
from ocs.charging.conductor import ChargingError
from ocs.charging.engine import Engine
from ocs.charging.pricing import Catalogues
from ocs.charging.registry import WorkerEntry, in_order
from ocs.charging.saga import Offload, Saga
from tariffs.model import Catalogue
from tariffs.problems import CatalogueError

AHEAD_US = 500_000
"""How far ahead the time of the switch is set: every worker has read the pointer by then. One that is late switches late,
which only means that it opens sessions at the old prices for a moment more."""


class CatalogueBlocked(ChargingError):
    """A published version cannot become current: a worker has not loaded it, or cannot. The text names the worker."""


class Activated(NamedTuple):
    """What became of an activation."""

    version: int
    """Of the text that was to be activated."""
    current: int
    """What is current; another version only if this is a repeat and something followed it."""
    changed: bool
    repeated: bool
    ready: tuple[WorkerEntry, ...]
    """The workers that had loaded it when it was made current; empty if nothing was changed."""


class Readiness(NamedTuple):
    """How far the workers are with a version."""

    ready: tuple[WorkerEntry, ...]
    waiting: tuple[WorkerEntry, ...]
    failed: tuple[WorkerEntry, ...]

    def check(self, version: int) -> bool:
        """Whether all have loaded it; `CatalogueBlocked` if one cannot."""
        if self.failed:
            reasons = "; ".join(f"{one.shown} cannot load it: {one.failure(version)}" for one in self.failed)
            raise CatalogueBlocked(f"catalogue version {version} is not activated: {reasons}")
        return not self.waiting

    def refuse(self, version: int, seconds: int) -> CatalogueBlocked:
        """The error for those that take too long."""
        names = ", ".join(one.shown for one in self.waiting)
        return CatalogueBlocked(
            f"catalogue version {version} is not activated: {names} has not loaded it within {seconds} s; try again"
        )


def readiness(members: Sequence[WorkerEntry], version: int) -> Readiness:
    """Sort the workers by how far they are."""
    ordered = in_order(members)
    ready = tuple(one for one in ordered if one.has_loaded(version))
    others = [one for one in ordered if not one.has_loaded(version)]
    failed = tuple(one for one in others if one.failure(version))
    return Readiness(ready, tuple(one for one in others if not one.failure(version)), failed)


class CatalogueFollower:
    """Keeps what this process can rate under in step with the store."""

    def __init__(
        self,
        engine: Engine,
        compile_text: Callable[[str, str, int], Catalogue],
        empty: Catalogue,
        wall_us: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        """`compile_text(text, filename, version)` raises `CatalogueError`; it is run off the loop.

        `empty` is sold when there is no catalogue. `wall_us` is the clock that the workers share, whatever time is
        charged by. `changed` is told when there is something new to be told in the registry.
        """
        self._engine = engine
        self._compile = compile_text
        self._wall_us = wall_us
        self._changed = changed
        self.loaded: dict[int, Catalogue] = {0: empty}
        self.failed: dict[int, str] = {}
        """Version -> why it does not load; not tried again, since a text never changes."""
        self.pointer = CataloguePointer(0, ())
        self._seen: bytes | None = None
        self._adopted = -1

    @property
    def current(self) -> int:
        """The version that sessions are opened under here."""
        return max(self._adopted, 0)

    def follow(self) -> Saga[None]:
        """Read the pointer; load what is new, and switch if it is time."""
        pointer, seen = yield from read_pointer()
        if seen != self._seen:
            yield from self._load(pointer)
            # Only now: what was not loaded is tried again.
            self.pointer, self._seen = pointer, seen
        self.adopt()

    def switches_in_us(self) -> int:
        """How long until the switch that is known of; 0: there is none to come."""
        return max(0, self.pointer.at_us - self._wall_us())

    def adopt(self) -> None:
        """Use what is current by now. A version that does not load here sells nothing: no price is guessed."""
        wanted = self.pointer.current_at(self._wall_us())
        current = wanted if wanted in self.loaded else 0
        if current != self._adopted:
            self._adopted = current
            self._use()

    def problems(self) -> list[str]:
        """What does not load and is wanted, one sentence each."""
        return [line for version, line in self._failures() if version in (self.pointer.current, self.pointer.published)]

    def warnings(self) -> list[str]:
        """What does not load and is old, and what was published and has not become current."""
        found = [line for version, line in self._failures() if line not in self.problems()]
        if self.pointer.published:
            found.append(f"catalogue version {self.pointer.published} is published and not active; activate it again")
        return found

    def _failures(self) -> list[tuple[int, str]]:
        kept = sorted((version, why) for version, why in self.failed.items() if version in self.pointer.versions)
        return [(version, f"catalogue version {version} does not load: {why}") for version, why in kept]

    def _load(self, pointer: CataloguePointer) -> Saga[None]:
        missing = [one for one in pointer.versions if one not in self.loaded and one not in self.failed]
        if not missing:
            return
        texts = yield from read_texts(missing)
        for version, text in texts.items():
            try:
                self.loaded[version] = yield Offload(self._compiling(text))
            except CatalogueError as error:
                self.failed[version] = str(error.problems[0])
        self._use()

    def _compiling(self, text: CatalogueText) -> Callable[[], object]:
        return lambda: self._compile(text.text, text.filename, text.version)

    def _use(self) -> None:
        self._engine.use_catalogues(Catalogues(self.loaded, max(self._adopted, 0)))
        self._changed()
