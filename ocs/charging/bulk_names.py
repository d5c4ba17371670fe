"""Names of imports: a file that is imported again under its own name must be the same file.

Rows are keyed by the import's name. A file's name may be used for another file next month, whose rows would then count
as done; so the name is noted with a digest of the file, and another file under it is refused, never guessed about.
"""

from __future__ import annotations

from typing import Any

from balance.account import OPERATION_SCHEMA, OperationRecord
from balance.documents import operation_key
from balance.store import Conflict, Transaction, Write
from ocs.charging.engine import Engine
from ocs.charging.operations import OperationRefused
from ocs.charging.registry import META_PARTITION
from ocs.charging.saga import Commit, Read, Saga
from ocs.charging.workspace import decode_document, encode_document


def begin_import(engine: Engine, name: str, digest: bytes, keep: bool) -> Saga[dict[str, Any]]:
    """Note which file is imported under a name, unless not `keep`; refused if it was another file.

    The answer's `begun_s` is when it was begun, `None`: never before.
    """
    key = operation_key(META_PARTITION, f"import:{name}")
    documents = yield Read(((META_PARTITION, key),))
    data = documents[key]
    if data is None and keep:
        record = OperationRecord(name, digest, b"", engine.now_s())
        fresh = encode_document(None, engine.nonce(), OPERATION_SCHEMA, record)
        write = Write(key, None, fresh, engine.settings.operation_kept_s)
        verdict = yield Commit(META_PARTITION, Transaction((write,)))
        data = verdict.documents[key] if isinstance(verdict, Conflict) else None
    if data is None:
        return {"key": name, "begun_s": None}
    known = decode_document(data, OperationRecord, OPERATION_SCHEMA)
    if known.digest != digest:
        message = (
            f"another file was imported under the name {name!r}; with the key {name!r} its rows that were done are not done "
            "again (a corrected file), with a new key every row is done (a new import)"
        )
        raise OperationRefused("conflict", "key", message)
    return {"key": name, "begun_s": known.at_s}
