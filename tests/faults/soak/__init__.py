"""Much work for a long time while processes are killed, and the API at its limits."""
