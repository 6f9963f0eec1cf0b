"""Taps: where tensors are caught as they pass through a model. They know modules, not measures."""
