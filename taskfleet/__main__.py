"""`python -m taskfleet`: the command line (`taskfleet.cli.main`)."""

from taskfleet.cli.main import main

main()
