"""The ports whose data is in DynamoDB, in the table `Task_Monitor`."""
