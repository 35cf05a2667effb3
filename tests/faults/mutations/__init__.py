"""Protections, removed one at a time: which test notices."""
