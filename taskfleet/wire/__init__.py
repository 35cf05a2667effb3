"""Every form in which data leaves or enters a process: HTTP, queues, task files, tokens."""
