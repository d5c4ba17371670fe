"""What happens without a request: sessions whose supervision time ended, buckets whose validity ended (LEDGER §8).

A due item names the key of a document. The sweeper reads the document and either acts or arms the item anew, since an
update that moves a deadline later leaves the item alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from balance import rules
from balance.account import Account
from balance.ledger import Event
from balance.posting import Posting
from balance.store import DueItem, StoreFailure
from ocs.charging.conductor import ChargingError
from ocs.charging.engine import Engine
from ocs.charging.expiry import arm_expiry
from ocs.charging.saga import Apply, Read, Saga
from ocs.charging.session import SESSION_SCHEMA, Session
from ocs.charging.session_jobs import end_by_supervision
from ocs.charging.workspace import Workspace, decode_document

ITEMS_PER_TURN = 64
"""Due items of one partition that one pass handles."""

PASS_DEADLINE_S = 10.0


class Sweeper:
    """Walks the due index of every partition."""

    def __init__(self, engine: Engine, utc_us: Callable[[], int], monotonic: Callable[[], float]) -> None:
        self._engine = engine
        self._utc_us = utc_us
        self._monotonic = monotonic
        self.swept = 0
        self.failures = 0

    def sweep(self, done: Callable[[int], None]) -> None:
        """One pass over all partitions; `done` gets the number of items handled (0: nothing was due)."""
        _Pass(self, done).start()

    def handle(self, item: DueItem, partition: int, done: Callable[[], None]) -> None:
        """Act on one item."""

        def finish(result: object) -> None:
            if isinstance(result, ChargingError):
                self.failures += 1
            else:
                self.swept += 1
            done()

        kind = item.member.split(b":", 2)[1]
        saga = self._session(partition, item.member) if kind == b"s" else self._account(partition, item.member)
        self._engine.run(saga, self._monotonic() + PASS_DEADLINE_S, finish)

    @property
    def engine(self) -> Engine:
        """The engine swept for."""
        return self._engine

    def now_us(self) -> int:
        """The charging clock."""
        return self._utc_us()

    def _session(self, partition: int, key: bytes) -> Saga[None]:
        documents = yield Read(((partition, key),))
        data = documents[key]
        settings = self._engine.settings
        account_id = "" if data is None else decode_document(data, Session, SESSION_SCHEMA).account

        def apply(workspace: Workspace, now_us: int) -> None:
            session, account = workspace.get(key, Session), workspace.account()
            if session is None or session.closed or account is None:
                workspace.due(key, None)
            elif session.deadline_s * 1_000_000 > now_us:
                session.armed_s = session.deadline_s
                workspace.put(key, session)
                workspace.due(key, session.deadline_s * 1_000_000)
            else:
                end_by_supervision(workspace, account, session, key, now_us, settings)

        yield Apply(partition, account_id, (key,), apply)

    def _account(self, partition: int, key: bytes) -> Saga[None]:
        account_id = key.split(b":", 2)[2].decode()

        def apply(workspace: Workspace, now_us: int) -> None:
            account = workspace.account()
            if account is None:
                workspace.due(key, None)
            else:
                _expire(workspace, account, now_us)

        yield Apply(partition, account_id, (), apply)


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
    """One walk over the partitions, at most one turn of each."""

    def __init__(self, sweeper: Sweeper, done: Callable[[int], None]) -> None:
        self._sweeper = sweeper
        self._done = done
        self._open = 0
        self._handled = 0

    def start(self) -> None:
        """Ask every partition for what is due."""
        store, now_us = self._sweeper.engine.store, self._sweeper.now_us()
        self._open = store.partitions
        for partition in range(store.partitions):
            store.due(partition, now_us, ITEMS_PER_TURN, self._receiver(partition))

    def _receiver(self, partition: int) -> Callable[[Sequence[DueItem] | StoreFailure], None]:
        def receive(items: Sequence[DueItem] | StoreFailure) -> None:
            if isinstance(items, StoreFailure):
                self._sweeper.failures += 1
            else:
                self._open += len(items)
                for item in items:
                    self._handled += 1
                    self._sweeper.handle(item, partition, self._one_less)
            self._one_less()

        return receive

    def _one_less(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._done(self._handled)
