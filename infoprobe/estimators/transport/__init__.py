"""Estimates through invertible maps that were fitted to the data."""
