"""Runner processes: where the code of process kinds runs, one task at a time in each.

- `forkserver` is the process that forks runners and ends them; `forks` is the worker's end of it.
- `taskuser` is the user that both are processes of, where that is not the worker's.
- `child` is what a runner does; `handle` is the worker's end of one runner, `pool` keeps them.
- `frames` is the pipe between a runner and its worker; `note` the word of shared memory that says
  which task runs; `output` what tasks printed; `remotestore` the store as a runner sees it.
- `chunk` hands tasks to a runner and judges how they end.
"""
