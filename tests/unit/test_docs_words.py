"""What the pages name exists: commands with their options, targets of make, settings, calls of the
API, modules and files; and their snippets can be read."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from docs.ext import api, cli
from docs.settings_page import CLIENT
from infra.deploy import main as deploy
from localcloud.__main__ import command as local_cloud
from taskfleet.cli.main import main as taskfleet
from taskfleet.settings import PREFIX, Settings
from tests.support import pages
from tests.support.pages import PAGES, ROOT, name_of

SETTINGS = {f"{PREFIX}{name.upper()}" for name in Settings.__struct_fields__}
NO_SETTINGS = {
    "TASKFLEET_TASK_ID",  # told to commands
    "TASKFLEET_ATTEMPT",  # told to commands
    "TASKFLEET_CANCEL_CHECK_S",  # the example of howto/add-a-setting.md
}
MADE_BY_READERS = {"count_primes.py", "break_it.py", "again.py", "attach.py", "rows.py"}
MADE_BY_READERS |= {"open_bundles.py"}
MAKEFILE = (ROOT / "Makefile").read_text()
BEHIND_MAKE = {"deploy": deploy.commands["up"], "up": local_cloud}


def spoken(page: str) -> Iterator[tuple[list[str], bool]]:
    """Yields each command that a page names, and whether it stands in a block of shell."""
    for block in pages.blocks(page, "sh"):
        for words in pages.commands(block.text):
            yield words, True
    for code in pages.inline(page):
        if re.match(r"(taskfleet|make|python) [a-z-]", code) and "'" not in code:
            for words in pages.commands(re.sub(r"[][]", "", code)):
                yield words, False


def named() -> list[Any]:
    """Every command of every page, once for each page."""
    found: dict[str, Any] = {}
    for path in PAGES:
        for words, whole in spoken(path.read_text()):
            if words[0].rpartition("/")[2] in ("taskfleet", "make", "python"):
                name = f"{name_of(path)}: {' '.join(words)}"
                found[name] = pytest.param(words, whole, id=name)
    return list(found.values())


NAMED = named()


def test_the_pages_name_commands() -> None:
    assert len(NAMED) >= 120


@pytest.mark.parametrize(("words", "whole"), NAMED)
def test_a_command_exists_and_takes_its_options(words: list[str], whole: bool) -> None:
    program, *rest = words
    match program.rpartition("/")[2]:
        case "taskfleet":
            check_click(taskfleet, rest, whole)
        case "make":
            check_make(rest)
        case "python":
            check_python(rest, whole)


def check_click(command: click.Command, words: list[str], whole: bool) -> None:
    """The command and its options exist. `whole`: its arguments are complete as well."""
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        assert name in command.commands, f"no command {name!r}"
        command = command.commands[name]
    if whole:
        # The parent is there because click remembers the names of the help option from the first
        # context that it sees.
        parent = click.Context(taskfleet, **dict(taskfleet.context_settings))
        try:
            command.make_context(command.name, list(words), parent=parent).close()
        except click.exceptions.Exit:  # --help, --version
            pass
        except click.BadParameter as fault:
            if not re.search("No such file|does not exist", fault.message):
                raise
    else:
        context = click.Context(command, info_name=command.name)
        _, left, _ = command.make_parser(context).parse_args(list(words))
        assert not left, f"one argument too many: {left}"


def check_make(words: list[str]) -> None:
    """The target and its variables exist, and what `ARGS` hands on is an option of the program."""
    target, *variables = words
    assert re.search(rf"^{re.escape(target)}:.*## ", MAKEFILE, re.MULTILINE), f"make {target}"
    for name, _, value in (variable.partition("=") for variable in variables):
        used = rf"\$\({name}\)|^{name} \?="
        assert re.search(used, MAKEFILE, re.MULTILINE), f"make does not know {name}"
        if name == "ARGS" and target in BEHIND_MAKE and "..." not in value:
            check_click(BEHIND_MAKE[target], value.split(), whole=False)


def check_python(words: list[str], whole: bool) -> None:
    """The module or the script exists, and takes the options if it is one of ours."""
    if words[0] in ("-c", "-"):
        return
    name, *options = words[1:] if words[0] == "-m" else words
    if words[0] == "-m":
        found = ROOT / name.replace(".", "/")
        assert found.with_suffix(".py").exists() or (found / "__main__.py").exists(), name
    else:
        assert (ROOT / name).exists() or name in MADE_BY_READERS, name
    called = " ".join(["python", *words[: len(words) - len(options)]])
    if called in cli.PROGRAMS:
        check_click(cli.PROGRAMS[called], options, whole)


def test_commands_are_found_wherever_they_stand() -> None:
    script = "a=1 batch=$(taskfleet submit x.txt \\\n  --name y > out) && make up # make down\n"
    assert list(pages.commands(script)) == [
        ["taskfleet", "submit", "x.txt", "--name", "y"],
        ["make", "up"],
    ]


@pytest.mark.parametrize("line", ["status --colour", "status a b", "results", "sumbit x"])
def test_a_command_that_cannot_be_is_found_out(line: str) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        check_click(taskfleet, line.split(), whole=True)


@pytest.mark.parametrize("line", ["dmeo", "up KEEPS=1", "deploy ARGS=--includes"])
def test_a_target_that_cannot_be_is_found_out(line: str) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        check_make(line.split())


# --- snippets -------------------------------------------------------------------------------


def snippets(*languages: str) -> list[Any]:
    return [
        pytest.param(block.text, id=f"{name_of(path)}:{block.line}")
        for path in PAGES
        for block in pages.blocks(path.read_text(), *languages)
    ]


@pytest.mark.parametrize("text", snippets("python"))
def test_a_snippet_of_python_can_be_parsed(text: str) -> None:
    ast.parse(textwrap.dedent(text))


@pytest.mark.parametrize("text", snippets("sh"))
def test_a_snippet_of_shell_can_be_parsed(text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", snippets("json"))
def test_a_snippet_of_json_can_be_parsed(text: str) -> None:
    for document in re.split(r"\n(?=\{)", text.strip()):
        json.loads(re.sub(r": \.\.\.", ": null", document))


# --- settings and calls ---------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_setting_that_a_page_names_exists(path: Path) -> None:
    found = set(re.findall(r"\bTASKFLEET_[A-Z][A-Z_]*[A-Z]\b", path.read_text()))
    assert found <= SETTINGS | set(CLIENT) | NO_SETTINGS


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_call_that_a_page_names_exists(path: Path) -> None:
    known = {
        (method, re.sub(r"\{\w+\}", "{}", call))
        for call, methods in api.paths().items()
        for method in methods
    }
    for code in pages.inline(path.read_text()):
        call = re.match(r"(GET|POST|PUT|DELETE) (/[^\s?]*)", code)
        if call:
            assert (call[1], re.sub(r"\{\w+\}", "{}", call[2])) in known, code
