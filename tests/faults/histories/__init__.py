"""Random histories of the whole stage, in memory and on a virtual clock."""
