"""Task kinds for work that users bring: `command` runs a program, `python` calls a function. A stage
that names their modules in TASKFLEET_KINDS lets whoever may submit run code on its workers
(docs/security.md)."""
