"""Looks up at AWS what `taskfleet.checkup` judges. Reads only."""
