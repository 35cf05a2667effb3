"""The worker daemon: pulls bundles, executes their tasks once each, answers, and leaves by itself.

Data flows one way: `intake` receives and `protocol` claims -> `workload` holds what is in hand ->
`execute` runs it in the slots -> `protocol` settles -> `outbox` answers and deletes. `heartbeat`
keeps the leases; `parts` puts these parts together; `worker` starts and stops their threads; `run`
is the command line.
"""
