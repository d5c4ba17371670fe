"""`python -m bench`: measurements of this product on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import memory, pauses
from bench.gy import command as gy_command
from bench.micro import command as micro_command

COMMANDS = (gy_command, micro_command, memory, pauses)

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a measurement and print it as a table or as JSON; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for one in COMMANDS:
        one.register(commands)
    options = parser.parse_args(arguments)
    status = INTERRUPTED
    try:
        status = options.run(options)
    except* KeyboardInterrupt:
        # What was started is ended and removed by now.
        print("interrupted", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
