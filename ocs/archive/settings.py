"""What an operator may set about the archive of events."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class ArchiveSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[archive]`: where events go when they leave the store's outbox."""

    enabled: bool = True
    """Off: events stay in the store for good, nothing limits them, and there are no CDRs."""
    folder: Annotated[str, Meta(min_length=1)] = "archive"
    """Folder of the segments, on a local disk; a relative path starts at the home folder."""
    segment_octets: Annotated[int, Meta(ge=1_048_576, le=1 << 40)] = 268_435_456
    """Size at which a segment is closed and the next one begun; one is closed at the end of each UTC day as well."""
    ledger_retention_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    """Segments whose youngest event is older are deleted, once exported as CDRs; 0: none is ever deleted."""
    delete_unexported: bool = False
    """Delete old segments even if no CDR export, or not every one, has passed them."""
    outbox_limit: Annotated[int, Meta(ge=1000, le=1_000_000_000)] = 2_000_000
    """Events that may wait in the store's outbox: alarm at half of them, new sessions are refused at nine tenths."""
    interval_ms: Annotated[int, Meta(ge=10, le=60_000)] = 500
    """Pause of the archiver when it has caught up."""
