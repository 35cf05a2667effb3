"""What goes wrong stays with its call: an exception, a crash, a call that hangs."""

import os
import sys
import time

from taskfleet import FleetExecutor


def work(number: int) -> int:
    """Returns the square of a number, but for three of them."""
    if number == 3:
        raise ValueError("three is not allowed")
    if number == 5:
        os._exit(1)
    if number == 7:
        time.sleep(3600)
    return number * number


if __name__ == "__main__":
    with FleetExecutor(name="failures", timeout_s=2, local="--local" in sys.argv) as pool:
        calls = [pool.submit(work, number) for number in range(10)]
        for number, call in enumerate(calls):
            error = call.exception()
            print(number, call.result() if error is None else f"failed: {error}")
