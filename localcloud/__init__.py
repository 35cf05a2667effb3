"""The local cloud: AWS emulators, the API, the event pump and workers, each a process of its own on
127.0.0.1. `python -m localcloud --help` lists its options."""
