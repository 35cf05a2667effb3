"""`make soak`."""

from tests.faults.soak.run import main

if __name__ == "__main__":
    main()
