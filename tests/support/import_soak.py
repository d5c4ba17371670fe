"""`python -m tests.support.import_soak`: long imports, with a server, on SQLite and on Redis of both levels, timed."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.import_kit import write_balances, write_subscribers
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
CATALOGUE = Path(__file__).with_name("catalogue.toml")
OCS = (sys.executable, "-m", "ocs.cli.main")
START_S = 20.0


def timed(store: str, folder: Path, files: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Import both files on a fresh store with a server; the summaries of the imports."""
    with ExitStack() as stack:
        settings = ""
        if store != "sqlite":
            redis = stack.enter_context(RedisServer("safe" if store == "redis-safe" else "fast"))
            settings = f'[store]\nengine = "redis"\nurl = "{redis.url}"\nlevel = "{redis.level}"\n'
        home = folder / store
        home.mkdir()
        (home / "ocs.toml").write_text(f'[diameter]\nlisten = "127.0.0.1"\nport = 0\n{settings}')
        environment = {
            **os.environ,
            "OCS_HOME": str(home),
            "OCS_CONFIG": str(home / "ocs.toml"),
            "PYTHONPATH": str(ROOT),
        }

        def ocs(*arguments: str) -> str:
            done = subprocess.run((*OCS, *arguments), env=environment, stdout=subprocess.PIPE, text=True, check=True)
            return done.stdout

        ocs("catalogue", "activate", str(CATALOGUE), "--reason", "a soak")
        with (home / "server.log").open("w") as log:
            server = subprocess.Popen((*OCS, "serve"), env=environment, stderr=log)
        try:
            ends = time.monotonic() + START_S
            while subprocess.run((*OCS, "status"), env=environment, capture_output=True, check=False).returncode:
                if server.poll() is not None or time.monotonic() > ends:
                    raise SystemExit((home / "server.log").read_text())
            return {kind: json.loads(ocs("import", kind, str(path), "--json")) for kind, path in files.items()}
        finally:
            server.terminate()
            server.wait(START_S)


def main() -> int:
    """Status 1 if a row was refused or an import took too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="rows of each file")
    parser.add_argument("--within", type=float, default=60.0, help="seconds that each import may take")
    wanted = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="ocs-import-") as name:
        folder = Path(name)
        files = {"subscribers": folder / "subscribers.csv", "balances": folder / "balances.csv"}
        write_subscribers(files["subscribers"], wanted.count, broken=False)
        write_balances(files["balances"], wanted.count, wanted.count // 4, broken=False)
        for store in ("sqlite", "redis-fast", "redis-safe"):
            for kind, found in timed(store, folder, files).items():
                is_late = found["seconds"] > wanted.within
                failed = failed or is_late or found["applied"] != wanted.count
                mark = "  TOO LONG" if is_late else ""
                speed = f"{found['seconds']:.1f} s, {found['rows_per_s']} rows/s"
                print(f"{store} {kind}: {found['applied']} rows in {speed}{mark}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
