"""Errors that know which argument they are about."""

from __future__ import annotations


class ArgumentError(Exception):
    """What is wrong with an argument.

    Attributes:
        argument: The name of the argument; several names where arguments do not fit together.
        problem: What was expected, what was given, and the way out, in sentences.
    """

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(argument, problem)
        self.argument = argument
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.argument}: {self.problem}"


class ArgumentValueError(ArgumentError, ValueError):
    """An argument of the right type has a value that cannot be used."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument has the wrong type."""
