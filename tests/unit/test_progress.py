"""Progress bars: what they show, and that they are drawn on terminals only."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from taskfleet.client.progress import Failed, TimeLeft, batch_bar, sending_bar
from taskfleet.wire.http.batches import BatchView
from tests.support.stub_api import BATCH


def batch(**fields: object) -> BatchView:
    return msgspec.convert({**BATCH, **fields}, BatchView)


def test_on_a_given_console_the_last_state_of_a_batch_stays() -> None:
    out = io.StringIO()
    with batch_bar(Failed(), TimeLeft(), total=9, console=Console(file=out, width=90)) as show:
        show(batch(name="[red]mine\x1b[2J", total=0))
        show(batch(name="[red]mine\x1b[2J", total=3, succeeded=1, failed=1, eta_s=61.7))
    (line,) = out.getvalue().splitlines()
    assert line.startswith("[red]mine [2J")
    assert line.split()[-5:] == ["2/3", "1", "failed", "0:01:02", "left"]


def test_nothing_is_drawn_when_standard_error_is_no_terminal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with batch_bar(Failed()) as show_batch, sending_bar() as show_sent:
        show_batch(batch(succeeded=1))
        show_sent(5, 10)
    assert capfd.readouterr() == ("", "")
