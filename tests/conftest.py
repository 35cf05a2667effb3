"""What all tests share: the numbers of the fault suite, and hypothesis without a time limit for one
example, since a busy computer takes longer than any."""

from hypothesis import settings

pytest_plugins = ("tests.faults.figures",)

settings.register_profile("taskfleet", deadline=None)
settings.load_profile("taskfleet")
