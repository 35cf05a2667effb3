"""`python -m taskfleet`: the command line (`taskfleet.cli`)."""

from taskfleet.cli import main

main()
