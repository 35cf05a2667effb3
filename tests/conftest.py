"""What all tests share: the numbers of the fault suite."""

pytest_plugins = ("tests.faults.figures",)
