"""What an operator asks first when something is wrong: the installation, the configuration, the store, the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ocs.cli.connection import answers, ask_workers, run, settings_of
from ocs.cli.errors import BadInput, CommandError, Unavailable
from ocs.cli.output import facts, line, table
from ocs.config import Settings

Json = dict[str, Any]

FACTS_TIMEOUT_S = 10.0
"""How long a worker may take to tell its facts: longer than it waits for its store."""


def examine(config: str | None) -> Json:
    """All findings; `problems` is empty when all is well. Works with and without a running server."""
    findings: Json = {"installation": {}, "server": None, "state": None, "warnings": [], "problems": []}
    _examine_installation(findings)
    try:
        settings = settings_of(config)
    except BadInput as error:
        findings["problems"] += [f"configuration: {one}" for one in str(error).splitlines()]
        return findings
    try:
        running = [answers(path) for path in settings.socket_paths()]
        findings["server"] = {"running": any(running), "socket": str(settings.socket_path)}
        if len(running) > 1 and any(running):
            _examine_workers(settings, findings)
            return findings
        if not any(running) and settings.store.engine == "sqlite" and not settings.store_path.exists():
            findings["warnings"].append(f"there is no store {settings.store_path} yet; the first change makes it")
            return findings
        state = run(config, lambda api: api.get("/v1/doctor"))
    except Unavailable as error:
        findings["problems"].append(str(error))
    except CommandError as error:
        findings["problems"].append(f"the server refuses to tell: {error}")
    else:
        findings["warnings"] += state.pop("warnings")
        findings["problems"] += state.pop("problems")
        findings["state"] = state
    return findings


def _examine_workers(settings: Settings, findings: Json) -> None:
    """Ask each of several workers; the state is that of the first that answers."""
    paths = settings.socket_paths()
    states: dict[int, Json] = {}
    for worker, text in enumerate(ask_workers(settings, "/v1/doctor", FACTS_TIMEOUT_S)):
        if text is None:
            findings["problems"].append(f"worker {worker} does not answer on {paths[worker]}")
        else:
            states[worker] = json.loads(text)
    findings["server"]["workers"] = [
        {"worker": worker, "running": worker in states, "socket": str(path)} for worker, path in enumerate(paths)
    ]
    for name in ("warnings", "problems"):
        findings[name] += _told_by_whom({worker: state.pop(name) for worker, state in states.items()})
    findings["problems"] += _differences(states, "catalogue", lambda state: str(state["catalogue"]["version"]))
    findings["warnings"] += _differences(states, "version", lambda state: str(state["version"]))
    findings["state"] = next(iter(states.values()), None)


def _told_by_whom(texts: Mapping[int, list[str]]) -> list[str]:
    """Sentences, each once; with the workers that say it unless all do."""
    who: dict[str, list[int]] = {}
    for worker, said in texts.items():
        for text in said:
            who.setdefault(text, []).append(worker)
    return [
        text if len(workers) == len(texts) else f"worker {', '.join(map(str, workers))}: {text}"
        for text, workers in who.items()
    ]


def _differences(states: Mapping[int, Json], name: str, value: Callable[[Json], str]) -> list[str]:
    """A sentence if the workers are not alike."""
    found = {worker: value(state) for worker, state in states.items()}
    if len(set(found.values())) < 2:
        return []
    return [f"workers differ in their {name}: " + ", ".join(f"{one} in worker {k}" for k, one in found.items())]


def _examine_installation(findings: Json) -> None:
    from ocs.startup import StartupError, check_installation, is_pure

    try:
        findings["installation"] = {fact.name: fact.value for fact in check_installation()}
    except StartupError as error:
        findings["problems"].append(f"installation: {error}")
    if is_pure():
        findings["warnings"].append("OCS_PURE=1: the compiled extensions are not used; slow, for tests only")


def print_findings(found: Json) -> None:
    """Findings for people: first what is loaded, last what is wrong."""
    _section("installation", found["installation"])
    if found["server"] is not None:
        running = "running" if found["server"]["running"] else "not running"
        _section("server", {"state": running, "control socket": found["server"]["socket"]})
        for one in found["server"].get("workers", ()):
            line(f"  worker {one['worker']}: {'running' if one['running'] else 'not running'}, {one['socket']}")
    state = found["state"]
    if state is not None:
        _state(state)
    for warning in found["warnings"]:
        line(f"warning: {warning}", style="yellow")
    for problem in found["problems"]:
        line(f"problem: {problem}", style="bold red")
    if not found["problems"]:
        line("no problem found", style="green")


def _state(state: Json) -> None:
    from ocs.cli.output import moment_us

    clock = "stepped by hand" if state["clock"]["stepped"] else "passes by itself"
    about = {"version": state["version"], "python": state["python"], "process": state["pid"]}
    about["time"] = f"{moment_us(state['clock']['now_us'])}, {clock}"
    _section("process", about)
    _section("store", state["store"])
    catalogue = state["catalogue"]
    plans = ", ".join(catalogue["plans"]) or "none"
    _section("catalogue", {"name": catalogue["name"], "version": catalogue["version"], "plans": plans})
    if state["listeners"]:
        line("listeners", style="bold")
        table(("name", "address"), [(one["name"], one["address"]) for one in state["listeners"]])
    _section("configuration", _flat(state["configuration"]))
    _section("numbers", state["numbers"])


def _section(title: str, values: Json) -> None:
    if values:
        line(title, style="bold")
        facts((f"  {name}", _shown(value)) for name, value in values.items())


def _flat(values: Json, prefix: str = "") -> Json:
    flat: Json = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(_shown(one) for one in value) or "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)
