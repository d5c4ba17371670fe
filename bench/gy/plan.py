"""What a run shall do: accounts, sessions, prices, and how fast."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from bench.gy import templates
from bench.gy.templates import Gateway
from cython_ext._loadgen import Load

MICROS = 1_000_000


class Price(NamedTuple):
    """What one rating group costs, and what is granted of it at a time; units are octets."""

    rating_group: int
    quota: int
    price_micros: int
    per: int
    step: int


PRICES = (
    Price(100, 10_000_000, 13_000, 1_000_000, 100_000),
    Price(200, 5_000_000, 70_001, 1_048_576, 10_000),
    # In steps of one octet, at a price that no number of octets meets exactly.
    Price(300, 20_000_000, 1_000, 3_000_000, 1),
)
"""Prices of the runs that bring their own server: awkward on purpose, so that every kind of rounding is met."""


def parse_price(text: str) -> Price:
    """`RG:QUOTA:PRICE_MICROS:PER:STEP` as five whole numbers; `ValueError` says what was expected."""
    if not re.fullmatch(r"\d{1,10}(:\d{1,15}){4}", text):
        raise ValueError(
            f"{text!r}, expected RG:QUOTA:PRICE_MICROS:PER:STEP, such as 100:10485760:100000:1048576:1048576"
        )
    price = Price(*(int(part) for part in text.split(":")))
    if price.rating_group >= 1 << 32 or not (price.quota and price.per and price.step):
        raise ValueError(f"{text!r}: quota, per and step are above 0, a rating group is below 2^32")
    return price


def catalogue_text(prices: Sequence[Price], plan: str) -> str:
    """A catalogue with one plan that sells the rating groups at these prices."""
    lines = ['name = "bench"', 'currency = "EUR"']
    for one in prices:
        lines += [
            "[[tariff]]",
            f'name = "rg{one.rating_group}"',
            'unit = "octets"',
            f'price = "{one.price_micros // MICROS}.{one.price_micros % MICROS:06d}"',
            f"per = {one.per}",
            f"step = {one.step}",
            f"default_quota = {one.quota}",
            "min_grant = 1",
        ]
    lines += ["[[plan]]", f'name = "{plan}"']
    for one in prices:
        lines += ["[[plan.rule]]", 'service_context = "32251@3gpp.org"', f"rating_group = {one.rating_group}"]
        lines += ['action = "charge"', f'tariff = "rg{one.rating_group}"']
    return "\n".join(lines) + "\n"


class Plan(NamedTuple):
    """One run."""

    connections: int = 4
    window: int = 64
    sessions: int = 1000
    """Open at a time, over all connections."""
    updates: int = 20
    """CCR-U of a session, between its CCR-I and its CCR-T."""
    prices: tuple[Price, ...] = PRICES[:1]
    """One for each rating group, one to three."""
    accounts: int = 1000
    msisdn_from: str = "447700000000"
    imsi_from: str = "234150000000000"
    rate: float | None = None
    """Requests a second in open loop; `None`: closed loop."""
    warm_up_s: float = 2.0
    duration_s: float = 10.0
    resend: bool = False
    """When a connection is lost: connect again and repeat what waits, with the T flag."""
    shared_accounts: bool = False
    """Any connection may speak for any account."""
    origin_host: str = "pgw{}.bench.example.net"
    origin_realm: str = "bench.example.net"
    destination_realm: str = "ocs.example.net"
    destination_host: str = ""
    service_context: str = "32251@3gpp.org"
    seed: int = 1
    drain_s: float = 30.0
    """How long the last answers are waited for."""

    def gateway(self, connection: int, run: int) -> Gateway:
        """Who speaks over a connection; `run` differs from run to run: milliseconds since 1970."""
        return Gateway(
            self.origin_host.replace("{}", f"{connection + 1:02d}"),
            self.origin_realm,
            self.destination_realm,
            self.destination_host,
            self.service_context,
            run // 1000 & 0xFFFFFFFF,
            str(run),
            len(self.msisdn_from),
            len(self.imsi_from),
        )

    def msisdn(self, account: int) -> str:
        """E.164 number of an account."""
        return str(int(self.msisdn_from) + account).zfill(len(self.msisdn_from))

    def imsi(self, account: int) -> str:
        """IMSI of an account."""
        return str(int(self.imsi_from) + account).zfill(len(self.imsi_from))

    def session_id(self, connection: int, run: int, number: int) -> str:
        """Session-Id of a session."""
        return templates.session_id(self.gateway(connection, run), number)

    def load(self, run: int, staggered: bool = True) -> Load:
        """The compiled message path, ready to send; the first sessions are cut short if `staggered`."""
        load = Load(
            self.connections,
            self.window,
            self.sessions,
            self.updates,
            self.accounts,
            int(self.msisdn_from),
            int(self.imsi_from),
            self.prices,
            self.seed,
            0,
            self.shared_accounts,
            staggered,
        )
        groups = [price.rating_group for price in self.prices]
        for connection in range(self.connections):
            gateway = self.gateway(connection, run)
            for kind in (templates.INITIAL, templates.UPDATE, templates.TERMINATION):
                load.set_template(connection, kind, *templates.credit_control(gateway, kind, groups))
        return load
