"""A worker that does what a file tells it, for tests of the supervisor: `worker_program.py FOLDER NUMBER`.

FOLDER/NUMBER holds one word, read at the start: `serve`; `deaf`: serve and ignore SIGTERM; `mute`: never say ready;
`exit-N`: end at once; `kill-N`: end at once by that signal. FOLDER/events gets a line for each thing that happens.
"""

import os
import signal
import sys

FOLDER, NUMBER = sys.argv[1:3]


def note(what: str) -> None:
    with open(f"{FOLDER}/events", "a", encoding="ascii") as events:
        events.write(f"{NUMBER} {what} {os.getpid()}\n")


def leave(*_: object) -> None:
    note("drained")
    os._exit(0)


with open(f"{FOLDER}/{NUMBER}", encoding="ascii") as told:
    word = told.read().strip()
signal.signal(signal.SIGTERM, signal.SIG_IGN if word == "deaf" else leave)
note("started")
kind, _, number = word.partition("-")
if kind == "exit":
    sys.exit(int(number))
if kind == "kill":
    os.kill(os.getpid(), int(number))
if kind != "mute":
    note("ready")
    os.write(int(os.environ["OCS_READY_FD"]), b"ready\n")
while True:
    signal.pause()
