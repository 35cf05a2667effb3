"""Placeholders in commands, and their quoting: whatever an item holds, it is one word."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskfleet.cli.template import QuotedPlaceholder, command, pattern, quoted_at
from taskfleet.kinds.pattern import matches


@pytest.mark.parametrize(
    ("item", "values"),
    [
        ("d/a.tar.gz", ["d/a.tar.gz", "d/a.tar", "a.tar.gz", "a.tar", "d"]),
        ("a.b/c", ["a.b/c", "a.b/c", "c", "c", "a.b"]),
        (".hidden", [".hidden", ".hidden", ".hidden", ".hidden", "."]),
        ("word", ["word", "word", "word", "word", "."]),
    ],
)
def test_placeholders_are_those_of_parallel(item, values):
    made = [command(f"x {each}", item) for each in ("{}", "{.}", "{/}", "{/.}", "{//}")]
    assert made == [f"x {each}" for each in values]


def test_without_a_placeholder_the_item_is_the_last_word():
    assert command("sha256sum", "a b") == "sha256sum 'a b'"
    assert command("awk '{print $1}'", "a") == "awk '{print $1}' a"


@pytest.mark.parametrize(
    ("template", "quotes"),
    [
        ("echo '{}'", "single quotes"),
        ('echo "a {.}"', "double quotes"),
        ("echo `cat {}`", "backquotes"),
        ("echo x # {}", "a comment"),
        ("cat <<E\n{}\nE", "a here-document"),
        ("echo \\{}", "a backslash"),
        ("sh -c 'echo {}' {}", "single quotes"),
    ],
)
def test_a_placeholder_within_quotes_is_refused(template, quotes):
    with pytest.raises(QuotedPlaceholder, match=f"stands within {quotes}"):
        command(template, "x")


@pytest.mark.parametrize(
    "template",
    [
        "echo 'a'{}",
        'echo "a $(cat {})"',
        'echo "a $(echo "b" {})"',
        "echo $((1 + (2))) {}",
        "echo it\\'s {}",
        'echo "\\"" {}',
        "echo a#b {}",
        "# it's\necho {}",
        "(cd x; echo {})",
        "cat <<<x {}",
    ],
)
def test_a_placeholder_among_words_is_taken(template):
    assert quoted_at(template, template.index("{}")) is None


ITEMS = st.text(
    st.sampled_from(list(" \t\n'\"\\$`;&|<>()*?[]{}~#!-=ab.ü/")), min_size=1, max_size=12
)


@given(ITEMS)
@settings(max_examples=200, deadline=None)
def test_any_item_is_one_word_for_a_shell(item):
    text = command("printf '%s\\0' before {} \"$(printf %s {}; printf x)\" a{}b", item)
    shown = subprocess.run(["sh", "-c", text], capture_output=True, check=True, timeout=10)
    assert shown.stderr == b""
    assert shown.stdout.decode().split("\0")[:-1] == ["before", item, item + "x", f"a{item}b"]


@given(st.text(st.sampled_from(list("ab*?[]!-")), min_size=1, max_size=8))
def test_an_item_in_a_pattern_stands_for_itself(item):
    assert matches(pattern("{}.*", item), f"{item}.png")
    assert not matches(pattern("{}", item), item + "x")
    assert not matches(pattern("{}", "a" + item), "b" + item)
