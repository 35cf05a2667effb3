"""A script that brings its packages: the worker builds an environment with them once."""

import sys

from taskfleet import FleetExecutor


def table(rows: list[list[str]]) -> str:
    """Returns rows as a table. The package is imported where it is installed: on the worker."""
    from tabulate import tabulate

    return tabulate(rows, headers="firstrow")


if __name__ == "__main__":
    with FleetExecutor(requirements=["tabulate==0.9.0"], local="--local" in sys.argv) as pool:
        print(pool.submit(table, [["fruit", "kg"], ["apples", "3"], ["pears", "5"]]).result())
