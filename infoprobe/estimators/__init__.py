"""Estimators: frozen dataclasses that hold their settings; their methods take tensors."""

from infoprobe.estimators.histogram import Histogram

__all__ = ["Histogram"]
