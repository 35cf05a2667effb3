"""The dynamic provisioner: decides how many machines there should be, and why."""
