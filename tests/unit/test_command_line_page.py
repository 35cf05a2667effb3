"""docs/command-line.md says of the commands what they are."""

from __future__ import annotations

import re
from pathlib import Path

import click

import taskfleet
from tests.unit.test_cli_every import CASES, COMMANDS

PAGE = (Path(taskfleet.__file__).parent.parent / "docs" / "command-line.md").read_text()


def rows_under(title: str) -> list[list[str]]:
    """Returns the cells of the table under a heading, without its two first lines."""
    part = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_table_of_options_is_that_of_the_commands() -> None:
    told = {
        (name, command)
        for names, commands, _ in rows_under("Options")
        for name in code(names)
        for command in code(commands)
    }
    there = {
        (written, name)
        for name, command in COMMANDS.items()
        for option in command.params
        if isinstance(option, click.Option)
        for written in [*option.opts, *option.secondary_opts]
        if written != "--json"
    }
    assert told == there


def test_the_json_of_every_command_is_told_with_its_fields() -> None:
    fields: dict[str, set[str]] = {}
    for names, documents in rows_under("JSON"):
        group = ""
        for name in code(names):
            group = "keys " if name.startswith("keys") else group
            fields[name if name in COMMANDS else group + name] = set(
                re.findall(r'"(\w+)"', documents)
            )
    assert set(fields) == set(COMMANDS)
    for name, told in fields.items():
        if told:
            assert CASES[name].json <= told, name
