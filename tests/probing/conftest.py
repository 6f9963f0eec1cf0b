import pytest
import torch


class Counting:
    """A compiler that only counts what it was given to compile, and how often that ran."""

    def __init__(self):
        self.compiled = self.ran = 0

    def __call__(self, graph, inputs):
        self.compiled += 1

        def compiled(*args):
            self.ran += 1
            return graph.forward(*args)

        return compiled


@pytest.fixture
def counting():
    torch.compiler.reset()
    yield Counting()
    torch.compiler.reset()
