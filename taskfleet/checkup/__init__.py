"""What `taskfleet doctor` and a deployment's preflight judge: rules from facts to findings. Calls
nobody; the facts are looked up by `taskfleet.aws.checkup` and `taskfleet.client.checkup`."""
