"""The front-end scheduler: takes batches in, puts them on the queue, and reads what became of
them."""
