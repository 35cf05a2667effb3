"""The params of the kind `command`, and the patterns of its outputs."""

from __future__ import annotations

import fnmatch

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.errors import InvalidTask
from taskfleet.kinds.command import with_urls
from taskfleet.kinds.pattern import matches
from taskfleet.kinds.spec import SCHEMA, parse
from taskfleet.memory import MemoryStore
from taskfleet.registry import Registry
from taskfleet.wire.filenames import name_fault

UPLOAD = "upload:0123456789abcdefghjkmnpqrs"
SHA = "upload:" + "0f" * 32


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("ls -l", "ls -l"),
        ({"shell": "ls -l"}, "ls -l"),
        ({"shell": "ls", "env": {}, "outputs": []}, "ls"),
        ({"argv": ["ls", ""]}, {"argv": ["ls", ""]}),
        ({"shell": "cat", "stdin": "a\0"}, {"shell": "cat", "stdin": "a\0"}),
        (
            {"outputs": ["**/*.csv"], "inputs": {"d/a": SHA, "b": UPLOAD}, "argv": ["x"]},
            {"argv": ["x"], "inputs": {"d/a": SHA, "b": UPLOAD}, "outputs": ["**/*.csv"]},
        ),
        (
            {"shell": "x", "env": {"A": "", "_b1": "ü"}, "inputs": {"a": "https://a.org/b?c"}},
            {"shell": "x", "env": {"A": "", "_b1": "ü"}, "inputs": {"a": "https://a.org/b?c"}},
        ),
    ],
)
def test_params_have_one_form(raw, canonical):
    assert parse(raw) == canonical
    assert parse(canonical) == canonical


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (None, "command needs text for the shell, such as `command ls -l`, or an object"),
        (["ls"], "command needs text for the shell"),
        ("", "shell is empty"),
        ({"shell": " \n"}, "shell is empty"),
        ({}, "needs argv, a list of words, or shell, a text"),
        ({"argv": ["a"], "shell": "a"}, "has both argv and shell; give one of them"),
        ({"argv": []}, "argv names no program"),
        ({"argv": [""]}, "argv names no program"),
        ({"argv": "ls -l"}, "Expected `array | null`, got `str` - at `argv`"),
        ({"argv": ["a", 1]}, "Expected `str`, got `int` - at `argv[1]`"),
        ({"argv": ["a", "b\0"]}, "argv[1] has a NUL"),
        ({"argv": ["a"] * 10_001}, "argv has 10001 words, over the cap of 10000"),
        ({"shell": "a\0"}, "shell has a NUL"),
        ({"shell": "a\ud800"}, "shell is not text that UTF-8 can write"),
        ({"shell": "ü" * 65_536}, "shell has 131072 bytes, over the 131071 that the system takes"),
        ({"shell": "a", "cwd": "/"}, "Object contains unknown field `cwd`"),
        ({"shell": "a", "env": {"A=B": "x"}}, "env: 'A=B' is not the name of a variable"),
        ({"shell": "a", "env": {"1A": "x"}}, "env: '1A' is not the name of a variable"),
        ({"shell": "a", "env": {"": "x"}}, "env: '' is not the name of a variable"),
        ({"shell": "a", "env": {"A": "x\0"}}, "env['A'] has a NUL"),
        ({"shell": "a", "env": {"A": 1}}, "Expected `str`, got `int` - at `env[...]`"),
        ({"shell": "a", "env": {"TASKFLEET_TASK_ID": "x"}}, "is a name that the worker sets"),
        ({"shell": "a", "env": {f"A{i}": "" for i in range(201)}}, "env has 201 variables"),
        ({"shell": "a", "env": {"A": "x" * 131_070}}, "env['A'] has 131072 bytes"),
        ({"shell": "a", "inputs": {"a": "x"}}, "inputs['a']: URL 'x' must begin with http"),
        ({"shell": "a", "inputs": {"a": "file:///etc/passwd"}}, "must begin with http"),
        ({"shell": "a", "inputs": {"a": "upload:x"}}, "'upload:x' is not the id of an upload"),
        ({"shell": "a", "inputs": {"a": "upload:../bob/x"}}, "is not the id of an upload"),
        ({"shell": "a", "inputs": {f"{i}": SHA for i in range(1001)}}, "has 1001 inputs, over"),
        ({"shell": "a", "inputs": {"a": SHA, "a/b": SHA}}, "'a/b' lies in 'a', which is another"),
        ({"shell": "a", "outputs": "*.csv"}, "Expected `array`, got `str` - at `outputs`"),
        ({"shell": "a", "outputs": ["a"] * 101}, "outputs has 101 patterns, over the cap of 100"),
        ({"shell": "a", "outputs": ["../*"]}, "outputs[0]: the pattern '../*' leads outside"),
        ({"shell": "a", "stdin": ["x"]}, "Expected `str`, got `array` - at `stdin`"),
    ],
)
def test_what_is_wrong_is_said(raw, fault):
    with pytest.raises(InvalidTask) as caught:
        parse(raw)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("params", "valid"),
    [
        ("ls", True),
        ({"argv": ["a"], "env": {"A": "x"}, "stdin": "", "inputs": {}, "outputs": ["*"]}, True),
        ({"shell": "a", "inputs": {"a": UPLOAD}}, True),
        ({"argv": ["a"], "shell": "a"}, False),
        ({}, False),
        ("", False),
        ({"argv": []}, False),
        ({"shell": "a", "cwd": "/"}, False),
        ({"shell": "a", "env": {"A": 1}}, False),
        ({"shell": "a", "outputs": "*"}, False),
    ],
)
def test_the_schema_says_what_the_parser_takes(params, valid):
    assert jsonschema.Draft202012Validator(SCHEMA).is_valid(params) == valid
    if valid:
        parse(params)
    else:
        with pytest.raises(InvalidTask):
            parse(params)


@pytest.mark.parametrize(
    ("result", "urls"),
    [
        ({"prefix": "outputs/b/0/", "outputs": [{"name": "d/a", "bytes": 1}]}, ["outputs/b/0/d/a"]),
        ({"prefix": "uploads/bob/", "outputs": [{"name": "a"}]}, []),
        ({"prefix": "outputs/b/0/../", "outputs": [{"name": "a"}]}, []),
        ({"prefix": "outputs/b/0/", "outputs": [{"name": "../1/a"}, {"name": 1}, "x"]}, []),
        ({"prefix": "outputs/b/0/", "outputs": "x"}, []),
        ({"prefix": 1, "outputs": [{"name": "a"}]}, []),
        ("x", []),
        (None, []),
    ],
)
def test_only_outputs_get_urls_whoever_wrote_the_result(result, urls):
    shown = with_urls(result, MemoryStore(), expires_s=60)
    outputs = shown["outputs"] if isinstance(shown, dict) else []
    found = [each["url"] for each in outputs if isinstance(each, dict) and "url" in each]
    assert found == [f"memory://{key}" for key in urls]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty"),
        ("/etc/passwd", "is absolute"),
        ("..", "leads outside"),
        ("a/../../b", "leads outside"),
        ("a/..", "leads outside"),
        ("a//b", "has an empty component"),
        ("./a", "has an empty component"),
        ("a/", "has an empty component"),
        ("a\0b", "has a NUL"),
        ("a\udcff", "is not text that UTF-8 can write"),
        ("ü" * 351, "has 702 bytes, over the cap of 700"),
        ("a" * 256, "has a component of over 255 bytes"),
    ],
)
@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_names_stay_in_the_folder(name, fault, field):
    value = {name: SHA} if field == "inputs" else [name]
    with pytest.raises(InvalidTask, match=fault):
        parse({"shell": "x", field: value})


@pytest.mark.parametrize("name", ["a", "..a", "a/b..c", ".hidden", "a b", "-rf", "ü/ö", "a\\b"])
def test_other_names_are_taken(name):
    assert name_fault(name) is None


def test_a_task_file_has_commands_by_line():
    registry = Registry.load(["taskfleet.kinds.command"])
    task = registry.parse("command ls -l | wc", 0)
    assert (task.kind, task.params) == ("command", "ls -l | wc")
    assert task.submitted_form == "command ls -l | wc"


@pytest.mark.parametrize(
    ("pattern", "takes", "not_taken"),
    [
        ("*.csv", ["a.csv", "a b.csv"], [".csv", "d/a.csv", "a.csv.gz"]),
        ("d/*.csv", ["d/a.csv"], ["a.csv", "d/e/a.csv"]),
        ("**/*.csv", ["a.csv", "d/a.csv", "d/e/a.csv"], [".d/a.csv", "d/.a.csv"]),
        ("d/**", ["d/a", "d/e/a"], ["a", "e/d/a", "d/.a"]),
        ("**", ["a", "d/a"], [".a", "d/.a"]),
        ("?", ["a", "ü"], ["ab", ".", "a/b"]),
        ("[ab].x", ["a.x"], ["c.x"]),
        (".*", [".a"], ["a"]),
        ("**/a/**", ["a/b", "x/a/b", "a"], ["b"]),
        ("a\nb", ["a\nb"], ["a"]),
    ],
)
def test_patterns_are_those_of_a_shell(pattern, takes, not_taken):
    assert [name for name in takes if not matches(pattern, name)] == []
    assert [name for name in not_taken if matches(pattern, name)] == []


@given(st.text("ab*?[]", max_size=8), st.text("ab", min_size=1, max_size=8))
def test_one_component_is_matched_as_fnmatch_does(pattern, name):
    assert matches(pattern, name) == (pattern == "**" or fnmatch.fnmatchcase(name, pattern))


def test_a_pattern_of_many_stars_takes_no_long():
    deep = "/".join("a" * 60)
    assert not matches("/".join(["**"] * 100 + ["b"]), deep)
    assert not matches("*a" * 50 + "b", "a" * 250)
