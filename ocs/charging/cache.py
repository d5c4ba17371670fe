"""Documents that this process read or wrote last, account by account, as bytes (LEDGER §1).

The documents of one account are kept as a *group* that agrees with one version of the account: whoever changes any of
them writes the account in the same commit, so a group whose account is still the stored one is current as a whole. A
group is therefore dropped whole as soon as its account turns out to be of another version. Only bytes are kept: a
collection of garbage does not have to look at them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Generic, TypeVar

from balance.documents import VERSION_OCTETS
from balance.store import Write

Group = dict[bytes, bytes]
"""Key -> document; the account's own among them. What is absent is not kept."""

MAX_GROUP = 512
"""Documents of one account that are kept; an account with more open sessions is read more often."""

_KIND_AT = len(b"{p000}:")
_KINDS = frozenset(b"aus")
"""Accounts, subscribers, sessions. Operations are asked for once, and end by themselves."""


T = TypeVar("T")


class LocatorCache(Generic[T]):
    """Where sessions are, by Session-Id; the oldest go first. Entries are plain tuples, which the collector skips."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._targets: OrderedDict[str, T] = OrderedDict()

    def get(self, session_id: str) -> T | None:
        """What is remembered."""
        return self._targets.get(session_id)

    def put(self, session_id: str, target: T) -> None:
        """Remember; a session that is asked for often is not kept longer than others: reading a locator is cheap."""
        self._targets[session_id] = target
        if len(self._targets) > self.most:
            self._targets.popitem(last=False)

    def drop(self, session_id: str) -> None:
        """Forget a session."""
        self._targets.pop(session_id, None)


class DocumentCache:
    """Groups in the order of their last use; the oldest go when there are too many documents."""

    def __init__(self, most: int) -> None:
        """`most`: documents kept in all; 0: none are kept."""
        self.most = most
        self.documents = 0
        self._groups: OrderedDict[bytes, Group] = OrderedDict()

    def __len__(self) -> int:
        """Accounts of which something is kept."""
        return len(self._groups)

    def get(self, account_key: bytes) -> Group | None:
        """The group of an account; not to be changed by the caller."""
        group = self._groups.get(account_key)
        if group is not None:
            self._groups.move_to_end(account_key)
        return group

    def read(self, account_key: bytes, documents: Mapping[bytes, bytes | None]) -> None:
        """Take over what one read gave, the account among it; what was known goes if it was of another version."""
        account = documents.get(account_key)
        if account is None:
            self.drop(account_key)
            return
        group = self._groups.get(account_key)
        if group is None or group[account_key][:VERSION_OCTETS] != account[:VERSION_OCTETS]:
            self.drop(account_key)
            group = {}
        else:
            self.documents -= len(group)
        for key, data in documents.items():
            if data is None:
                group.pop(key, None)
            elif key[_KIND_AT] in _KINDS:
                group[key] = data
        self._keep(account_key, group)

    def wrote(self, account_key: bytes, basis: Mapping[bytes, bytes | None], writes: tuple[Write, ...]) -> None:
        """Take over a commit that was computed from `basis` and succeeded."""
        group = self._groups.get(account_key)
        before = basis.get(account_key)
        if group is None or before is None or group[account_key][:VERSION_OCTETS] != before[:VERSION_OCTETS]:
            # It was dropped meanwhile, and why is not known here.
            self.drop(account_key)
            return
        size = len(group)
        for write in writes:
            # What has a time to live is a tombstone or the like: hardly ever asked for again.
            if write.data is None or write.ttl_s:
                group.pop(write.key, None)
            elif write.key[_KIND_AT] in _KINDS:
                group[write.key] = write.data
        if account_key not in group:
            del self._groups[account_key]
            self.documents -= size
        elif len(group) != size:
            self.documents -= size
            self._keep(account_key, group)

    def drop(self, account_key: bytes) -> None:
        """Forget an account."""
        group = self._groups.pop(account_key, None)
        if group is not None:
            self.documents -= len(group)

    def clear(self) -> None:
        """Forget everything: the store's connection or its primary has changed."""
        self._groups = OrderedDict()
        self.documents = 0

    def _keep(self, account_key: bytes, group: Group) -> None:
        """Count a group that is not counted, and make room."""
        if len(group) > min(MAX_GROUP, self.most):
            self._groups.pop(account_key, None)
            return
        self._groups[account_key] = group
        self._groups.move_to_end(account_key)
        self.documents += len(group)
        while self.documents > self.most:
            _, oldest = self._groups.popitem(last=False)
            self.documents -= len(oldest)
