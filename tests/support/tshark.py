"""Wireshark's opinion on octets of ours: each message is put into a capture and dissected by tshark."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SEVERITY_ERROR = 0x800000
"""`expert.severity` of an error; warnings and below are smaller (wireshark: epan/proto.h)."""

_LINK_RAW_IP = 101
_PORT = 3868


class Dissection(NamedTuple):
    """What tshark made of one message."""

    commands: tuple[int, ...]
    """Command codes found in the frame: one, if it was recognised as one Diameter message."""
    malformed: bool
    complaints: tuple[str, ...]
    """Expert messages of severity error, and whatever it calls malformed."""
    warnings: tuple[str, ...]
    """Expert messages of severity warning."""


def find_tshark() -> str:
    """Path of tshark; fails the test where it is missing, with the command that fetches it."""
    local = ROOT / ".tools" / "bin" / "tshark"
    found = shutil.which("tshark") or (str(local) if local.exists() else None)
    assert found is not None, "tshark is missing: `make test-peers` fetches it into .tools (Debian package tshark)"
    return found


def dissect(messages: Sequence[bytes]) -> list[Dissection]:
    """Dissect messages, each a TCP segment of its own between the Diameter port and a client.

    The capture goes through a pipe: tshark may run as a user who cannot read our files.
    """
    arguments = [find_tshark(), "-r", "-", "-T", "json", "--no-duplicate-keys"]
    done = subprocess.run(arguments, input=_capture(messages), capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    frames = json.loads(done.stdout)
    assert len(frames) == len(messages)
    return [_judge(frame["_source"]["layers"]) for frame in frames]


def _judge(layers: dict[str, Any]) -> Dissection:
    commands: list[int] = []
    complaints: list[str] = []
    warnings: list[str] = []
    malformed = "_ws.malformed" in layers
    for key, value in _walk(layers):
        if key == "diameter.cmd.code":
            commands.append(int(value))
        elif key == "_ws.malformed":
            malformed = True
        elif key == "_ws.expert" and isinstance(value, dict):
            _sort_out(value, complaints, warnings)
    return Dissection(tuple(commands), malformed, tuple(complaints), tuple(warnings))


def _sort_out(expert: dict[str, Any], complaints: list[str], warnings: list[str]) -> None:
    severity = int(expert["_ws.expert.severity"])
    text = str(expert.get("_ws.expert.message", expert))
    if severity >= SEVERITY_ERROR:
        complaints.append(text)
    elif severity > SEVERITY_ERROR // 2:
        warnings.append(text)


def _walk(node: Any) -> list[tuple[str, Any]]:
    """All keys and values of a nested answer; values that are lists are taken one by one."""
    found: list[tuple[str, Any]] = []
    for key, value in node.items() if isinstance(node, dict) else ():
        for one in value if isinstance(value, list) else [value]:
            found.append((key, one))
            found.extend(_walk(one))
    return found


def _capture(messages: Sequence[bytes]) -> bytes:
    packets = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, _LINK_RAW_IP)]
    for number, message in enumerate(messages):
        packet = _segment(message, 40000 + number)
        packets.append(struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet)
    return b"".join(packets)


def _segment(payload: bytes, client_port: int) -> bytes:
    """An IPv4 packet with one TCP segment from the Diameter port: a connection of its own for each message."""
    tcp = struct.pack(">HHIIBBHHH", _PORT, client_port, 1, 1, 5 << 4, 0x18, 65535, 0, 0)
    total = 20 + len(tcp) + len(payload)
    address = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, total, 1, 0, 64, 6, 0, *address)
    return ip + tcp + payload
