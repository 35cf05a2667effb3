"""The ports that are kept in DynamoDB, in the table `Task_Monitor`."""
