"""The forms in which data enters and leaves a process: HTTP, queues, task files, JSON, tokens."""
