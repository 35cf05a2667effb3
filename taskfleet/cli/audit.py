"""`taskfleet audit`: the receipt of a batch. Owns the command and the form of its output; the rule
is in `taskfleet.scheduler.audit`."""

from __future__ import annotations

import click

from taskfleet.cli.api import client_here
from taskfleet.cli.command import command
from taskfleet.cli.complete import batch_ids
from taskfleet.cli.output import write_json
from taskfleet.wire.http.batches import AuditView
from taskfleet.wire.plain import plain


@command(
    "audit",
    examples=("taskfleet audit BATCH", "taskfleet audit BATCH --json | jq .sha256"),
    json="the receipt, as GET /batches/{batch_id}/audit answers.",
)
@click.argument("batch", shell_complete=batch_ids)
def audit(batch: str, as_json: bool) -> int:
    """Prove that every task of a batch has exactly one result.

    Compares what was submitted, what was counted and what is recorded. Exits with 1 if they do not
    agree or the batch has not ended.
    """
    with client_here() as client:
        receipt = client.audit(batch)
    if as_json:
        write_json([receipt])
    else:
        for line in _lines(receipt):
            click.echo(line)
    return 0 if receipt.balanced else 1


def _lines(receipt: AuditView) -> list[str]:
    ended = receipt.succeeded + receipt.failed + receipt.cancelled
    lines = [
        f"{receipt.total} tasks: {receipt.succeeded} succeeded, {receipt.failed} failed, "
        f"{receipt.cancelled} cancelled, {receipt.total - ended} without a result",
        f"{receipt.attempts} executions, {receipt.bundles_done} of {receipt.bundles} bundles done",
        f"sha256 of the results: {receipt.sha256}",
    ]
    lines += [f"fault: {plain(fault)}" for fault in receipt.faults]
    if receipt.fault_count > len(receipt.faults):
        lines.append(f"and {receipt.fault_count - len(receipt.faults)} more faults")
    if receipt.balanced:
        return [*lines, "it balances: every task has exactly one result"]
    if not receipt.finished:
        return [*lines, "the batch has not ended; audit it again when it has"]
    return [*lines, f"it does not balance: {receipt.fault_count} faults"]
