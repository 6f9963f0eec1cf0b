"""Measuring what passes through the layers of a model."""
