"""The HTTP front end that runs in Lambda: envelopes in, envelopes out. What a batch is and what
becomes of it is `taskfleet`'s."""
