"""`make mutations`."""

import sys

from tests.faults.mutations.check import main

if __name__ == "__main__":
    sys.exit(main())
