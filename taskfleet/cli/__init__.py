"""The command line `taskfleet`."""
