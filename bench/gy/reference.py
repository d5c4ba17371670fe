"""The reference server as a process of a run: its accounts, and what its Redis holds afterwards."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Self

import redis

from bench.gy.accounts import OPENING_MICROS
from bench.gy.connection import Address
from bench.gy.plan import Plan
from bench.gy.servers import START_TIMEOUT_S, Process


class Reference:
    """`python -m bench.reference_server` over a Redis of its own."""

    def __init__(self, folder: Path, plan: Plan, url: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._plan = plan
        self._url = url
        self._process: Process | None = None
        self.addresses: list[Address] = []

    def __enter__(self) -> Self:
        with redis.Redis.from_url(self._url) as client, client.pipeline(transaction=False) as pipeline:
            for number in range(self._plan.accounts):
                pipeline.hset(self._key(number), mapping={"balance": OPENING_MICROS, "reserved": 0})
            pipeline.execute()
        log = self._folder / "reference.log"
        command = [sys.executable, "-m", "bench.reference_server", "--redis", self._url]
        for price in self._plan.prices:
            command += ["--price", ":".join(str(part) for part in price)]
        # In a clone the package is found from its root, wherever the server works.
        root = str(Path(__file__).resolve().parents[2])
        self._process = Process("the reference server", command, log, {"PYTHONPATH": root})
        deadline = time.monotonic() + START_TIMEOUT_S
        while not log.read_text().endswith("\n"):
            self._process.check(deadline)
            time.sleep(0.02)
        self.addresses = [("127.0.0.1", int(log.read_text().split()[0]))]
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.stop()

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    def balances(self) -> list[tuple[int, int]]:
        """Balance and what is reserved of it, by account."""
        with redis.Redis.from_url(self._url) as client, client.pipeline(transaction=False) as pipeline:
            for number in range(self._plan.accounts):
                pipeline.hmget(self._key(number), "balance", "reserved")
            return [(int(balance), int(reserved)) for balance, reserved in pipeline.execute()]

    def _key(self, number: int) -> str:
        return f"account:{self._plan.msisdn(number)}"
