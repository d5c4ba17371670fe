"""What happens without a request: supervision times and validities end, gateways are sent notices (LEDGER §8, §10).

A due item names the key of a document. The sweeper reads the document and either acts or arms the item anew, since an
update that moves a deadline later leaves the item alone. Whatever it does is compared by version as any other change: so
that two sweep the same partition costs a conflict and nothing else, and who sweeps which is a matter of economy
(`ocs.charging.registry`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from balance import rules
from balance.account import Account
from balance.ledger import Event
from balance.posting import Posting
from balance.store import DueChange, DueItem, StoreFailure, Transaction
from ocs.charging.conductor import ChargingError, JobFailed
from ocs.charging.engine import Engine
from ocs.charging.expiry import arm_expiry
from ocs.charging.notices import NoticeDesk
from ocs.charging.saga import Apply, Commit, Read, Saga
from ocs.charging.session import SESSION_SCHEMA, Session
from ocs.charging.session_jobs import end_by_supervision
from ocs.charging.workspace import Workspace, decode_document

ITEMS_PER_TURN = 64
"""Due items of one partition that one pass handles."""

PARTITIONS_AT_ONCE = 4
"""Partitions that a pass works on at the same time."""

TURNS_IN_A_ROW = 4
"""Turns that a partition gets in one pass while its own items make others due at once."""

PASS_DEADLINE_S = 10.0

POSTPONED_US = 60_000_000
"""When an item that could not be handled is tried again; each try is an error in the log."""

BUSY_ACCOUNTS = 512
"""With more accounts than this at work the queue counts as long, and the sweep waits. Its own items count as well."""

PASSES_PUT_OFF = 10
"""Passes in a row that may be put off or cut short; one is then made all the same, so that nothing waits for ever."""


class Sweeper:
    """Walks the due index of every partition."""

    def __init__(self, engine: Engine, utc_us: Callable[[], int], monotonic: Callable[[], float]) -> None:
        self._engine = engine
        self._utc_us = utc_us
        self._monotonic = monotonic
        self.is_mine: Callable[[int], bool] = lambda partition: True
        """Whether this process sweeps a partition; set by the owner if there are others."""
        self.notices: NoticeDesk | None = None
        """Who delivers notices; `None`: what is due for a gateway is left to others."""
        self.swept = 0
        self.failures = 0
        self.put_off = 0
        """Passes that were not made or not finished since the queue was long."""
        self._first = 0
        self._put_off_in_a_row = 0

    def sweep(self, done: Callable[[int], None]) -> None:
        """One pass over all partitions, whosever they are; `done` gets the number of items handled (0: none was due)."""
        _Pass(self, range(self._engine.store.partitions), lambda: False, done).start()

    def sweep_mine(self, done: Callable[[int], None]) -> None:
        """One pass over the partitions of this process, for as long as the queue of requests is short."""
        count = self._engine.store.partitions
        # A pass that is cut short is taken up where it ended.
        order = [(self._first + step) % count for step in range(count)]
        unhurried = self._put_off_in_a_row >= PASSES_PUT_OFF

        def is_put_off() -> bool:
            return not unhurried and self._engine.conductor.waiting > BUSY_ACCOUNTS

        walk = _Pass(self, [partition for partition in order if self.is_mine(partition)], is_put_off, done)
        walk.start()

    def ended(self, left: Sequence[int]) -> None:
        """A pass has begun all that it will; `left`: partitions that it did not come to."""
        if left:
            self._first = left[0]
            self.put_off += 1
            self._put_off_in_a_row += 1
        else:
            self._put_off_in_a_row = 0

    def handle(self, item: DueItem, partition: int, done: Callable[[bool], None]) -> None:
        """Act on one item; `done` is told whether that made another one due at once."""

        deadline = self._monotonic() + PASS_DEADLINE_S

        def finish(result: object) -> None:
            if isinstance(result, JobFailed):
                self.failures += 1
                self._engine.run(self._postpone(partition, item.member), deadline, lambda _: done(False))
                return
            if isinstance(result, ChargingError):
                self.failures += 1
            else:
                self.swept += 1
            done(result is True)

        self._engine.run(self._saga(partition, item.member), deadline, finish)

    def _postpone(self, partition: int, member: bytes) -> Saga[None]:
        """An item that cannot be handled, such as one of a damaged document, must not stand in the way of all others."""
        later = DueChange(member, self._utc_us() + POSTPONED_US)
        yield Commit(partition, Transaction((), due=(later,)))

    def _saga(self, partition: int, member: bytes) -> Saga[bool]:
        kind = member.split(b":", 2)[1]
        if kind == b"s":
            return self._session(partition, member)
        if kind == b"n":
            return self._notice(partition, member)
        return self._account(partition, member)

    def _notice(self, partition: int, key: bytes) -> Saga[bool]:
        if self.notices is None:
            return False
        return (yield from self.notices.handle(partition, key))

    @property
    def engine(self) -> Engine:
        """The engine swept for."""
        return self._engine

    def now_us(self) -> int:
        """The charging clock."""
        return self._utc_us()

    def _session(self, partition: int, key: bytes) -> Saga[bool]:
        documents = yield Read(((partition, key),))
        data = documents[key]
        settings = self._engine.settings
        account_id = "" if data is None else decode_document(data, Session, SESSION_SCHEMA).account

        def apply(workspace: Workspace, now_us: int) -> None:
            session, account = workspace.get(key, Session), workspace.account()
            if session is None or session.closed or account is None:
                workspace.due(key, None)
            elif session.deadline_s * 1_000_000 > now_us:
                session.armed_after_s = session.age_s(session.deadline_s)
                workspace.put(key, session)
                workspace.due(key, session.deadline_s * 1_000_000)
            else:
                end_by_supervision(workspace, account, session, key, now_us, settings)

        yield Apply(partition, account_id, (key,), apply)
        return False

    def _account(self, partition: int, key: bytes) -> Saga[bool]:
        account_id = key.split(b":", 2)[2].decode()

        def apply(workspace: Workspace, now_us: int) -> None:
            account = workspace.account()
            if account is None:
                workspace.due(key, None)
            else:
                _expire(workspace, account, now_us)

        yield Apply(partition, account_id, (), apply)
        return False


def _expire(workspace: Workspace, account: Account, now_us: int) -> None:
    posting = Posting(account, now_us // 1_000_000)
    rules.expire(posting)
    workspace.put_account(posting.account)
    if posting.entries:
        workspace.event(
            Event(
                account=account.id,
                at_us=now_us,
                kind="sweep",
                entries=tuple(posting.entries),
                operation="expire",
            )
        )
    arm_expiry(workspace, posting.account, posting.now_s)


class _Pass:
    """One walk over some partitions, a few at a time."""

    def __init__(
        self, sweeper: Sweeper, partitions: Sequence[int], is_put_off: Callable[[], bool], done: Callable[[int], None]
    ) -> None:
        self.sweeper = sweeper
        self.handled = 0
        self._partitions = partitions
        self._is_put_off = is_put_off
        self._done = done
        self._next = 0
        self._open = 0
        self._walking = False

    def start(self) -> None:
        """Begin partitions while there is room for them; those that end at once make it here, and not by recursion."""
        if self._walking:
            return
        self._walking = True
        while self._open < PARTITIONS_AT_ONCE and self._next < len(self._partitions) and not self._is_put_off():
            partition = self._partitions[self._next]
            self._next += 1
            self._open += 1
            _Turn(self, partition).ask()
        self._walking = False
        if self._open == 0:
            self.sweeper.ended(self._partitions[self._next :])
            self._done(self.handled)

    def turn_ended(self) -> None:
        """A partition is done."""
        self._open -= 1
        self.start()


class _Turn:
    """The turn of one partition."""

    def __init__(self, walk: _Pass, partition: int) -> None:
        self._walk = walk
        self._partition = partition
        self._open = 0
        self._turns = 0
        self._again = False

    def ask(self) -> None:
        """Ask what is due."""
        self._turns += 1
        self._again = False
        sweeper = self._walk.sweeper
        sweeper.engine.store.due(self._partition, sweeper.now_us(), ITEMS_PER_TURN, self._receive)

    def _receive(self, items: Sequence[DueItem] | StoreFailure) -> None:
        sweeper = self._walk.sweeper
        if isinstance(items, StoreFailure):
            sweeper.failures += 1
            items = ()
        # One more than there are, so that items that end at once do not end the turn before the last has begun.
        self._open = len(items) + 1
        self._walk.handled += len(items)
        for item in items:
            sweeper.handle(item, self._partition, self._one_less)
        self._one_less(False)

    def _one_less(self, more_due: bool) -> None:
        self._again = self._again or more_due
        self._open -= 1
        if self._open:
            return
        if self._again and self._turns < TURNS_IN_A_ROW:
            self.ask()
        else:
            self._walk.turn_ended()
