"""What brings Taskfleet to AWS: the stack, the machine's set-up, and the commands `deploy` and
`destroy` that put them together with Chalice."""
