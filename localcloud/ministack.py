"""Runs ministack, its long poll made as prompt as that of SQS: `python -m localcloud.ministack`.

A receive that waits looks for messages every 100 ms in ministack; in SQS it learns of one at once.
Owns that one difference.
"""

from __future__ import annotations

import asyncio
import types

from ministack import app
from ministack.services import sqs

LOOK_S = 0.01


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(min(seconds, LOOK_S))


def main() -> None:
    prompt = types.ModuleType("asyncio")
    prompt.__dict__.update(vars(asyncio) | {"sleep": _sleep})
    sqs.asyncio = prompt
    app.main()


if __name__ == "__main__":
    main()
