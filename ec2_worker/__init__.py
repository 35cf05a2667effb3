"""The worker daemon: pulls bundles, executes their tasks once each, answers, and leaves by itself.

Data flows one way: `intake` receives and `attempt` claims -> `workload` holds what is in hand ->
`execute` runs it in the slots -> `attempt` settles -> `outbox` answers and deletes. `heartbeat`
keeps what is in hand; `worker` starts and stops them all; `run` is the command line.
"""
