"""The pages keep what they say: links lead somewhere, every page is in the menu, every command shown exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from ocs.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
OURS = [page for page in PAGES if "requirements" not in page.parts and page.name != "compliance.md"]
"""Pages written by hand; the requirement rows and the table made of them hold no links and no commands of ours."""

LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^\s*(`{3,})\s*([\w-]*)")


class Command(NamedTuple):
    """One `ocs` command in a page."""

    page: str
    line: int
    words: tuple[str, ...]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[tuple[str, int, str]]:
    """Yield (language of the fenced block or "", line number, line); the fences themselves are left out."""
    fence, language = "", ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        match = FENCE.match(line)
        if match and not fence:
            fence, language = match[1], match[2] or "none"
        elif match and match[1] == fence and not match[2]:
            fence, language = "", ""
        else:
            yield language, number, line


def anchors(page: Path) -> set[str]:
    """Return the ids of a page's headings, as both GitHub and mkdocs make them."""
    texts = [line.lstrip("#").strip() for language, _, line in blocks(page) if not language and line.startswith("#")]
    words = [re.sub(r"[^\w\s-]", "", text.lower()).strip() for text in texts]
    return {re.sub(r"\s", "-", text) for text in words} | {re.sub(r"[\s-]+", "-", text) for text in words}


def commands(page: Path) -> Iterator[Command]:
    """Yield `$ ocs …` of console blocks and `ocs …` of shell blocks, continued lines joined."""
    pending = ""
    for language, number, line in blocks(page):
        text = pending + line.strip()
        pending = ""
        if language == "console" and text.startswith("$ "):
            text = text[2:]
        elif language not in ("sh", "shell", "bash"):
            continue
        if text.endswith("\\"):
            pending = ("$ " if language == "console" else "") + text[:-1]
            continue
        yield from split_commands(name(page), number, text)


def split_commands(page: str, line: int, text: str) -> Iterator[Command]:
    """Yield the `ocs` commands of a shell line, cut at pipes, lists, redirections and background marks."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not set(word) <= set("|&;()<>"):
            words.append(word)
            continue
        while words and ("=" in words[0] or words[0] == "sudo"):
            words.pop(0)
        if words and Path(words[0]).name == "ocs":
            yield Command(page, line, tuple(words[1:]))
        # What follows a redirection is a file.
        words = [] if word not in ("<", ">", ">>") else [">"]


def complaint(words: tuple[str, ...]) -> str | None:
    """Return what the command line lacks: a subcommand, an option, an argument."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    positional: list[str] = []
    while rest:
        word = rest.pop(0)
        option = find_option(command, word)
        if option is not None:
            # In a synopsis without its placeholder, another option may follow.
            if not option.is_flag and "=" not in word and rest and not rest[0].startswith("--"):
                del rest[: option.nargs]
        elif word.startswith("-") and not re.fullmatch(r"-\d.*", word):
            return f"no option {word}"
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return f"no command {word}"
            command = command.commands[word]
        else:
            positional.append(word)
    return complaint_of_arguments(command, positional, asks_help=bool({"--help", "-h"} & set(words)))


def find_option(command: Any, word: str) -> Any:
    spelled = word.split("=", 1)[0]
    context = command.context_class(command, info_name="ocs", help_option_names=["-h", "--help"])
    for parameter in command.get_params(context):
        if parameter.param_type_name == "option" and spelled in (*parameter.opts, *parameter.secondary_opts):
            return parameter
    return None


def complaint_of_arguments(command: Any, given: list[str], *, asks_help: bool) -> str | None:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    if any(argument.nargs == -1 for argument in arguments):
        return None
    if len(given) > len(arguments):
        return f"too many arguments: {given[len(arguments) :]}"
    needed = sum(argument.required for argument in arguments)
    return None if len(given) >= needed or asks_help else f"{needed} arguments are needed"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_internal_links_lead_somewhere(page: Path) -> None:
    broken = []
    for language, number, line in blocks(page):
        for target in LINK.findall(re.sub(r"`[^`]*`", "", line)) if not language else []:
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            found = (page.parent / file).resolve() if file else page
            if not found.exists() or (anchor and anchor not in anchors(found)):
                broken.append(f"{name(page)}:{number}: {target}")
    assert not broken


def test_every_page_is_in_the_menu_once() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    menu = sorted(re.findall(r"^ +- .*: (\S+\.md)$", text, re.MULTILINE))
    assert menu == sorted(page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", OURS, ids=name)
def test_every_command_shown_exists(page: Path) -> None:
    wrong = [
        f"{c.page}:{c.line}: ocs {' '.join(c.words)}: {why}" for c in commands(page) if (why := complaint(c.words))
    ]
    assert not wrong


def test_pages_show_commands() -> None:
    assert any(True for page in OURS for _ in commands(page))


def test_options_named_in_prose_exist() -> None:
    """`ocs serve --test-clock` in backquotes is a promise too; PLACEHOLDERS and [brackets] are a synopsis."""
    wrong = []
    for page in OURS:
        for language, number, line in blocks(page):
            for text in re.findall(r"`(ocs [^`…]+)`", line) if not language else []:
                words = shlex.split(re.sub(r"[\[\]]", " ", text))[1:]
                known = [word for word in words if not word.isupper()]
                why = complaint((*known, "--help"))
                if why:
                    wrong.append(f"{name(page)}:{number}: {text}: {why}")
    assert not wrong


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ocs nonesuch", "no command nonesuch"),
        ("ocs serve --nonesuch", "no option --nonesuch"),
        ("ocs catalogue check", "1 arguments are needed"),
        ("ocs catalogue check a.toml b.toml", "too many arguments: ['b.toml']"),
        ("ocs catalogue check a.toml > out.txt", None),
        ("OCS_PURE=1 sudo /opt/tollgate/bin/ocs doctor | less", None),
    ],
)
def test_the_check_of_commands_finds_mistakes(line: str, why: str | None) -> None:
    (command,) = split_commands("page", 1, line)
    assert complaint(command.words) == why
