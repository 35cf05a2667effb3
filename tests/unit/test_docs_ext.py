"""What writes the generated parts of the pages: docstrings, prose, schemas, commands, links."""

from __future__ import annotations

from typing import Any

import click
import pytest

from docs.ext import cli, docstrings, outside, pages, prose, schema


def test_arguments_of_a_docstring_become_fields() -> None:
    lines = [
        "Does it. See: nothing.",
        "",
        "name: what it is called,",
        "    on two lines.",
        "url, token: of the API.",
        "",
        "Raises ValueError: never a field.",
    ]
    assert docstrings.as_fields(lines) == [
        "Does it. See: nothing.",
        "",
        ":param name: what it is called,",
        "    on two lines.",
        ":param url/token: of the API.",
        "",
        "Raises ValueError: never a field.",
    ]


def test_a_colon_within_a_paragraph_makes_no_field() -> None:
    lines = ["Returns one of", "these: a, b."]
    assert docstrings.as_fields(lines) == lines


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("a <b> *c*", r"a \<b\> \*c\*"),
        ("`a <b>` and {{ x }}", r"`a <b>` and \{\{ x \}\}"),
        ("on\n   two", "on two"),
    ],
)
def test_text_is_shown_as_it_is(text: str, markdown: str) -> None:
    assert prose.line(text) == markdown


def test_paragraphs_and_items_stay() -> None:
    text = "One\nline.\n\n- a\n  b\n- c\n\nsize: in bytes,\n    at most 3.\nname: of it."
    expected = "One line.\n\n- a b\n- c\n\n- `size`: in bytes, at most 3.\n- `name`: of it."
    assert prose.paragraphs(text) == expected


def test_a_bar_does_not_break_a_table() -> None:
    assert prose.table(["A"], [["x | y"]]).splitlines()[-1] == r"| x \| y |"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 5000}, "integer (1 to 5,000)"),
        ({"type": "number", "exclusiveMinimum": 0}, "number (over 0)"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 9}, "number (over 0, to 9)"),
        ({"type": "string", "maxLength": 200}, "string (at most 200 characters)"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Row"}}, "array of [Row](#row)"),
        ({"enum": ["A", "B"]}, '`"A"`, `"B"`'),
        ({}, "any JSON"),
    ],
)
def test_a_type_is_told_with_its_range(given: dict[str, Any], told: str) -> None:
    assert schema.type_of(given) == told


def test_a_command_has_its_usage_its_options_and_those_below_it() -> None:
    @click.group()
    def tool() -> None:
        """Do things."""

    @tool.command(epilog="\b\nExamples:\n  tool one --fast")
    @click.argument("file")
    @click.option("--fast", is_flag=True, help="Be quick, for [x].")
    @click.option("--secret", hidden=True, help="Not told.")
    def one(file: str, fast: bool, secret: str) -> None:
        """Do one.

        \b
        As it
          stands.
        """

    @tool.command(hidden=True)
    def two() -> None:
        """Not told either."""

    text = "\n".join(cli.sections(tool, ["tool"], 2))
    assert "## tool\n" in text
    assert "### tool one\n" in text
    assert "tool one [OPTIONS] FILE" in text
    assert "As it\n  stands." in text
    assert r"| `--fast` | Be quick, for \[x\]. |" in text
    assert "Examples:\n  tool one --fast" in text
    assert "--secret" not in text
    assert "tool two" not in text


def test_links_of_the_files_at_the_top_fit_their_pages() -> None:
    text = outside.included("CONTRIBUTING.md")
    assert "](../howto/README.md)" in text
    assert "](docs/" not in text
    inward = outside.inward("see [it](../SECURITY.md) or [that](../SECURITY.md#scope)", 0)
    assert inward == (
        "see [it](project/security-policy.md) or [that](project/security-policy.md#scope)"
    )


def test_a_mark_that_nothing_generates_is_an_error() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        pages.completed("<!-- generated: nonsense -->")
    assert pages.completed("a\n<!-- generated -->\n") == "a\n<!-- generated -->\n"
