"""What a local cloud says when it serves: the token in its link is for a terminal only."""

from __future__ import annotations

from pathlib import Path

from localcloud import cloud
from localcloud.options import Options

OPTIONS = Options(api_port=8123, directory=Path("some/folder"))


def said(access: str | None) -> list[str]:
    lines: list[str] = []
    cloud._announce(OPTIONS, access, lines.append)
    return lines


def test_on_a_terminal_the_link_to_the_dashboard_has_the_token() -> None:
    assert "look: http://127.0.0.1:8123/#token=a.b.c" in said("a.b.c")


def test_elsewhere_the_link_says_where_the_token_is() -> None:
    lines = said(None)
    assert lines[0].startswith("ready http://127.0.0.1:8123 ")
    (look,) = [line for line in lines if line.startswith("look: ")]
    assert look.startswith("look: http://127.0.0.1:8123/ ")
    assert "some/folder/env" in look
    assert not [line for line in lines if "#token" in line]
