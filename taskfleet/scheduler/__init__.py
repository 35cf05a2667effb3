"""The front-end scheduler: takes batches in, puts them on the queue, and reads their status and
results."""
