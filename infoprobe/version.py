"""The version of infoprobe."""

__version__ = "0.2.0"
