"""The HTTP API's caps, the shapes of its answers, and the form of a time in them. `chalice_app`
writes these shapes and `taskfleet.client` reads them. The shapes of requests are in
`chalice_app.body` and `chalice_app.query`.

Every time in an answer is text in ISO 8601, UTC. Every duration is a number of seconds. Docstrings
of the structs become descriptions in the OpenAPI document, for readers who know HTTP and JSON but
not Python.
"""
