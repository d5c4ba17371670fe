"""`ocs serve --test-clock` as a process, with the scenarios' catalogue, and a gateway that is connected to it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from ocs.demo.server import DemoServer
from tests.support.gy_client import GyClient, Requests

CATALOGUE = Path(__file__).with_name("catalogue.toml")
CENT = 10_000
HOST, REALM = "ocs1.example.com", "example.com"


class Server(DemoServer):
    """The server under test."""

    def __init__(self, home: Path, settings: str = "") -> None:
        super().__init__(home, HOST, REALM, ("--test-clock",), settings)
        self.home = home
        self._numbers = itertools.count(1)

    def prepare(self) -> None:
        """Activate the scenarios' catalogue."""
        self.post("/v1/catalogue/activate", text=CATALOGUE.read_text(), filename=CATALOGUE.name)

    def subscriber(
        self, cents: int, plan: str = "d10", msisdn: str = "447700900123", account: str = "acc", limit: int = 0
    ) -> str:
        """An account with money and one subscriber; gives the account's name."""
        self.post("/v1/accounts", account=account, currency="EUR", credit_limit_micros=limit * CENT)
        if cents:
            self.top_up(cents, account)
        identities = [{"kind": "e164", "value": msisdn}]
        self.post("/v1/subscribers", subscriber=f"sub-{account}", account=account, plan=plan, identities=identities)
        return account

    def top_up(self, cents: int, account: str = "acc") -> None:
        self.post(f"/v1/accounts/{account}/topup", amount=cents * CENT)

    def balance(self, account: str = "acc") -> tuple[int, int]:
        """(B, R) in cents, exactly."""
        found = self.get(f"/v1/accounts/{account}")
        posted, reserved = found["balance_micros"], found["reserved_micros"]
        assert posted % CENT == 0
        assert reserved % CENT == 0
        return posted // CENT, reserved // CENT

    def bucket(self, number: int, account: str = "acc") -> dict[str, Any]:
        """One bucket of an account."""
        for bucket in self.get(f"/v1/accounts/{account}")["buckets"]:
            if bucket["bucket"] == number:
                found: dict[str, Any] = bucket
                return found
        raise KeyError(number)

    def debits(self, account: str = "acc") -> list[int]:
        """Debits of money in the ledger, in cents, oldest first."""
        events = self.get(f"/v1/accounts/{account}/ledger?limit=1000")["items"]
        entries = [entry for event in events for entry in event["entries"]]
        amounts = [-one["posted_change"] for one in entries if one["verb"] == "debit" and one["kind"] == "money"]
        assert all(amount % CENT == 0 for amount in amounts)
        return [amount // CENT for amount in amounts]

    def advance(self, seconds: int) -> None:
        """Step the clock; everything due is done when this returns."""
        answer = self._client.post("/v1/clock/advance", json={"seconds": seconds})
        assert answer.is_success, answer.text

    def gateway(self, origin_host: str = "gw1.example.net") -> GyClient:
        """A gateway whose capabilities were accepted."""
        client = GyClient(("127.0.0.1", self.port), Requests(origin_host))
        assert client.open().code == 2001
        return client
