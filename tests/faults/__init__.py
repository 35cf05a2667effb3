"""The fault suite: what is promised, under every fault that we can make.

`make test` runs a slice of each layer, `make faults` all of them (`--deep`), and prints what each
layer tried and found (`tests.faults.figures`).
"""
