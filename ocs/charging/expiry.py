"""When the sweeper must look at an account: one due item per account, set by whatever puts something into a bucket."""

from __future__ import annotations

from balance import rules
from balance.account import Account
from ocs.charging.workspace import Workspace


def arm_expiry(workspace: Workspace, account: Account, now_s: int) -> None:
    """Set the account's due time to the earliest end of a bucket that has something to expire, or remove it."""
    end_s = rules.next_expiry_s(account, now_s)
    workspace.due(workspace.account_key, end_s * 1_000_000 if end_s else None)
