"""The Lambda functions: the HTTP API and the handlers of queues and schedules. They unpack events
and pack answers; what happens to a batch is decided in `taskfleet`."""
