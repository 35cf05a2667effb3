"""The env file: what is written is what is read, by a shell and by the client."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.client import envfile

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)
# No variable of a process can hold a NUL, and no file in UTF-8 a surrogate.
ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
TO_QUOTE = st.text(" \t\r\n\v\f\x85\u2028'\"\\\\#$`=;!~*ae")
VALUES = ANY_TEXT | TO_QUOTE
ODD = {
    "QUOTES": """it's "so" `x` $HOME \\""",
    "SPACES": "  a  b\t",
    "LINES": "one\ntwo\r\n\n'three\n",
    "EXPORT": "a\nexport B=1\n# c",
    "EMPTY": "",
    "EQUALS": "a=b=",
}


@given(st.dictionaries(NAMES, VALUES))
def test_reading_is_the_inverse_of_writing(variables: dict[str, str]) -> None:
    assert envfile.parse(envfile.render(variables)) == variables


def test_a_file_reads_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_bytes(envfile.render(ODD).encode())
    assert envfile.read(path) == ODD


def test_a_shell_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_bytes(envfile.render(ODD).encode())
    sourced = subprocess.run(
        ["sh", "-c", '. "$1"; env -0', "sh", str(path)],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
    )
    seen = dict(pair.split("=", 1) for pair in sourced.stdout.decode().split("\0") if pair)
    assert {name: seen.get(name) for name in ODD} == ODD


def test_comments_and_other_commands_are_ignored() -> None:
    text = "# it's a comment\nA=1\nset -e\n\nexport B=2 C='3 4'  # both\n"
    assert envfile.parse(text) == {"B": "2", "C": "3 4"}


def test_a_quoted_value_without_an_end_is_named_by_its_line() -> None:
    with pytest.raises(ValueError, match="line 2: No closing quotation"):
        envfile.parse("export A=1\nexport B='2\nexport C=3\n")
