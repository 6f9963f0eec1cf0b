"""The command lines of the examples: their options, and checks of the values."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser_for(doc: str | None) -> argparse.ArgumentParser:
    """Returns a parser that describes a script by the first line of its docstring."""
    return argparse.ArgumentParser(
        description=(doc or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def require_between(
    parser: argparse.ArgumentParser, options: argparse.Namespace, **bounds: tuple[int, int | None]
) -> None:
    """Ends the script with an error unless each option is an integer within its bounds.

    Arguments:
        parser: The parser of the options, which reports the error.
        options: The options.
        bounds: The least and the greatest value of each option; ``None`` for no greatest value.
    """
    for name, (low, high) in bounds.items():
        value: int = getattr(options, name)
        if value < low or (high is not None and value > high):
            expected = f"at least {low:,}" if high is None else f"{low:,} to {high:,}"
            parser.error(f"--{name}: expected {expected}, got {value:,}")


def callback_options(doc: str | None, arguments: list[str] | None) -> argparse.Namespace:
    """Returns the options of an example that trains a small model with a callback."""
    parser = parser_for(doc)
    parser.add_argument("--steps", type=int, default=200, help="number of training steps")
    parser.add_argument("--every", type=int, default=20, help="steps from one log to the next")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and the data")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder to write into")
    options = parser.parse_args(arguments)
    require_between(parser, options, steps=(1, None), every=(1, None))
    return options
