"""Attacks with random arguments and damaged files: what may come of a call, and how many calls.

The tests of this folder call public functions with hostile arguments, and load files that were
damaged. A call may return a value that is not NaN, or raise an error of the library that names
the argument; anything else is a fault. The test suite runs a short profile with fixed examples.
The long one draws new examples each time and counts what came of them:

    python -m tests.fuzz.attack 20000
"""

import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from hypothesis import HealthCheck, settings

from infoprobe.errors import ArgumentError

_LONG = "INFOPROBE_FUZZ"
OUTCOMES = Counter()

# Errors that are documented beside those that name an argument.
DOCUMENTED = (FileNotFoundError, IsADirectoryError)


def profile(share=1.0):
    """The settings of a test that takes this share of the examples."""
    examples = int(os.environ.get(_LONG, 60))
    return settings(
        max_examples=max(5, int(share * examples)),
        deadline=None,
        derandomize=_LONG not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def outcome(call, *, nan=False):
    """What a call returns, or ``None`` if it refuses its arguments by name.

    Arguments:
        call: The call.
        nan: Whether a NaN says what it should.
    """
    OUTCOMES["calls"] += 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = call()
    except (ArgumentError, *DOCUMENTED):
        OUTCOMES["refusals"] += 1
        return None
    except BaseException:
        OUTCOMES["other exceptions"] += 1
        raise
    if not nan and isinstance(value, torch.Tensor) and bool(value.isnan().any()):
        OUTCOMES["silent NaN"] += 1
        raise AssertionError(f"a silent NaN: {value}")
    return value


def main(examples):
    """Runs every attack, and prints what came of it: a line for each, and the number of faults."""
    os.environ[_LONG] = str(examples)
    from tests.fuzz import attack, test_arguments, test_files

    faults = 0
    for module in (test_arguments, test_files):
        tests = {name: x for name, x in vars(module).items() if name.startswith("test_")}
        for name, test in tests.items():
            attack.OUTCOMES.clear()
            begin = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                try:
                    test(**({"tmp_path": Path(folder)} if module is test_files else {}))
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    faults += 1
                    print(
                        f"{name}: {type(error).__name__}: {error}",
                        *getattr(error, "__notes__", []),
                        sep="\n",
                    )
            seconds = time.monotonic() - begin
            print(f"{name}: {dict(attack.OUTCOMES)}, {seconds:.0f} s", flush=True)
    print(f"{faults} faults")


if __name__ == "__main__":
    main(int(sys.argv[1]))
