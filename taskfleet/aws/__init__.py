"""The ports on AWS: one module a service. Nothing else in Taskfleet imports boto3 or botocore."""
