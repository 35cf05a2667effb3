"""The command line `taskfleet`, and what other command lines of the project share with it."""
