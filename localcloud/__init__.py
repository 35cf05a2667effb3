"""The embedded AWS for a laptop: emulators, API, event pump and workers, each a process of its
own on 127.0.0.1. `python -m localcloud --help` tells how to use it."""
