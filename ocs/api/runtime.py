"""What the HTTP interface needs of the process that charges: a server, or a command that opened the store itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from prometheus_client.core import Metric

from ocs.charging.catalogue_rollout import Activated
from ocs.charging.engine import Engine
from ocs.config import Settings


class Runtime(Protocol):
    """One engine over one open store. All methods are called on the loop that runs it."""

    @property
    def settings(self) -> Settings:
        """The configuration in force."""

    @property
    def engine(self) -> Engine:
        """The engine; sagas of the API run through it."""

    @property
    def mode(self) -> Literal["server", "command"]:
        """`server`: `ocs serve`; `command`: a command line that holds the store for a moment."""

    @property
    def worker_id(self) -> str:
        """Names this start of this process among all that share the store."""

    @property
    def stepped(self) -> bool:
        """Whether time is stepped by `advance` (`ocs serve --test-clock`) instead of passing."""

    def monotonic(self) -> float:
        """Monotonic seconds, the scale of the deadlines given to `Engine.run`."""

    def uptime_s(self) -> int:
        """Whole seconds since this process opened the store."""

    def now_us(self) -> int:
        """UTC microseconds of the charging clock."""

    def advance(self, seconds: int) -> None:
        """Move a stepped clock forward; called only if `stepped`."""

    async def sweep(self) -> int:
        """Handle everything that is due now, and what that makes due; gives the number of items."""

    async def activate_catalogue(
        self, text: str, filename: str, who: str, reason: str, key: str | None = None
    ) -> Activated:
        """Make a checked text the current version in the store and in every worker; returns when it is.

        `CatalogueBlocked` if a worker cannot load it, `ChargingError` if it could not be stored.
        """

    async def workers(self) -> Mapping[str, Any]:
        """Workers and peers of the whole store (`ocs.charging.registry.describe_workers`).

        `ChargingError` if the store does not answer.
        """

    async def store_facts(self) -> Mapping[str, object]:
        """Engine, path, durability level and what proves it, as plain values (`SqliteStore.describe`).

        `ChargingError` if the store does not answer.
        """

    def listeners(self) -> Sequence[Mapping[str, object]]:
        """What is listened on: each with `name` and `address`."""

    def numbers(self) -> Mapping[str, int]:
        """Counters and gauges beyond the engine's own, by a name in lower case such as `diameter_peers_open`."""

    def families(self) -> Iterable[Metric]:
        """Metrics with labels of their own, such as those of each Diameter peer."""

    def warnings(self) -> Sequence[str]:
        """What is not as it should be and yet does not stop the service, one sentence each."""

    def problems(self) -> Sequence[str]:
        """What is wrong, one sentence each; `ocs doctor` fails on any."""
