"""The deployment of Taskfleet to AWS: the stack, the set-up of a worker's machine, and the commands
`deploy`, `ami` and `destroy`."""
