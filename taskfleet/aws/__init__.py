"""The ports on AWS, one module for each service. No other part of `taskfleet` imports boto3 or
botocore. The promises stand in `taskfleet.ports` and `taskfleet.provisioner.ports`."""
