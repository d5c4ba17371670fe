"""What an operator may set about charging; every default is the documented one."""

from __future__ import annotations

import msgspec


class ChargingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Section `[charging]` of the configuration."""

    shared_validity_s: int = 300
    """Validity of a last grant while another session still holds part of the balance (CC-086)."""
    fui_only_if_no_other_reservations: bool = True
    """Off: the final-unit indication is sent even while another session holds part of the balance (CC-086)."""
    default_tcc_s: int = 7200
    """Supervision time of a session without any grant (CC-036): twice the default validity."""
    max_tcc_s: int = 86_400
    """Longest supervision time (CC-036)."""
    reopen_on_initial: bool = True
    """INITIAL for an open session with another number closes it and opens anew; off: 5012 (CC-047)."""
    overuse_floor_micros: int | None = None
    """Posted balance below which over-use is recorded as uncollected instead of debited (CC-070); none: no floor."""
    max_skew_s: int = 86_400
    """Event times further off than this give way to the time of receipt, and the record is flagged (CC-020)."""
    plan_pin_s: int = 86_400
    """Age at which a session moves to the current catalogue at its next report (LEDGER §11)."""
    tombstone_s: int = 3600
    """How long a closed session answers repeats (CC-042: at least ten minutes)."""
    event_kept_s: int = 3600
    """The same for one-time events; 86400 for clients that buffer for long."""
    locator_s: int = 604_800
    """Time to live of a session's locator; it is written anew at half of it while the session lives."""
    ecur_no_usu: str = "release"
    """Event session ended without any usage report: `release` all, or `debit` what was granted (CC-151)."""
    debit_orphans: bool = False
    """Debit usage that is reported for an unknown session by a known subscriber (CC-038); off: record only."""
    refund_window_s: int = 7_776_000
    """How long a debit may be refunded by its token (LEDGER §7.6): 90 days."""
    cached_documents: int = 300_000
    """Accounts, subscribers and sessions whose documents a process keeps in memory, together; 0: none."""
    notices: bool = False
    """Whether gateways are told of changes while a session runs; off for as long as no server can tell them."""
    operation_kept_s: int = 2_592_000
    """How long the key of an operator's change answers repeats (LEDGER §4): 30 days."""

    def __post_init__(self) -> None:
        """Refuse values that would break a rule; `ValueError` names the field."""
        if self.tombstone_s < 600 or self.event_kept_s < 600:
            raise ValueError("tombstone_s and event_kept_s: expected at least 600 seconds (CC-042)")
        if self.ecur_no_usu not in ("release", "debit"):
            raise ValueError(f"ecur_no_usu: {self.ecur_no_usu!r}, expected 'release' or 'debit'")
        if self.cached_documents < 0:
            raise ValueError("cached_documents: expected 0 or more")
        for name in ("shared_validity_s", "default_tcc_s", "max_tcc_s", "max_skew_s", "plan_pin_s"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a positive number of seconds")
        if self.locator_s < 2 * max(self.max_tcc_s, self.tombstone_s, self.event_kept_s):
            raise ValueError("locator_s: expected at least twice max_tcc_s, tombstone_s and event_kept_s")
