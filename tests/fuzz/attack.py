"""Attacks with random arguments, data, models and damaged files, and a count of what came of them.

The tests of this folder call public functions with hostile arguments, load files that were
damaged, probe models that do what a probe may not expect, cut streams of data anyhow, and compare
numbers with independent references. A call may return what is right, or raise an error of the
library that names the argument; anything else is a fault. The test suite runs a short profile
with fixed examples. The long one divides a number of examples among the tests, and writes down
what came of them (``docs/benchmarks/attack.json`` has the last figures):

    python -m tests.fuzz.attack 20000 --seed 1 --out docs/benchmarks/attack.json
"""

import argparse
import importlib
import inspect
import json
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import hypothesis
import numpy as np
import torch
from hypothesis import HealthCheck, settings

import infoprobe
from infoprobe.errors import ArgumentError

_LONG = "INFOPROBE_FUZZ"
# The seconds that a call of the long attack may take on a busy machine.
_LIMIT = 120

OUTCOMES = Counter()
SHARES = []

# Errors that are documented beside those that name an argument.
DOCUMENTED = (FileNotFoundError, IsADirectoryError)


class Hangs(BaseException):
    """A call has taken too long. No test catches it."""


def profile(share=1.0):
    """The settings of a test that takes this share of the examples."""
    SHARES.append(share)
    return settings(
        max_examples=max(5, round(share * float(os.environ.get(_LONG, 40)))),
        deadline=None,
        derandomize=_LONG not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def begin_call():
    """Counts a call. In the long attack, it may take some time and no more."""
    OUTCOMES["calls"] += 1
    if _LONG in os.environ:
        signal.alarm(_LIMIT)


def outcome(call, *, nan=False):
    """What a call returns, or ``None`` if it refuses its arguments by name.

    Arguments:
        call: The call.
        nan: Whether a NaN says what it should.
    """
    begin_call()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = call()
    except (ArgumentError, *DOCUMENTED):
        OUTCOMES["refusals"] += 1
        return None
    except Exception:
        OUTCOMES["other exceptions"] += 1
        raise
    if not nan and isinstance(value, torch.Tensor) and bool(value.isnan().any()):
        OUTCOMES["silent NaN"] += 1
        raise AssertionError(f"a silent NaN: {value}")
    return value


def _tests(examples=None):
    """All tests of this folder, with so many examples for a share of one."""
    from tests.fuzz import test_arguments, test_files, test_models, test_numbers, test_streams

    modules = [test_arguments, test_files, test_models, test_numbers, test_streams]
    if examples is not None:
        os.environ[_LONG] = str(examples)
        modules = [importlib.reload(module) for module in modules]
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": test
        for module in modules
        for name, test in vars(module).items()
        if name.startswith("test_") and inspect.isfunction(test)
    }


def _attack(test, seed):
    """What came of one test: the counts, and the fault that it found."""
    OUTCOMES.clear()
    begin, fault = time.monotonic(), None
    with tempfile.TemporaryDirectory() as folder:
        arguments = (
            {"tmp_path": Path(folder)} if "tmp_path" in inspect.signature(test).parameters else {}
        )
        try:
            hypothesis.seed(seed)(test)(**arguments)
        except Hangs:
            OUTCOMES["hangs"] += 1
            fault = "hangs: " + traceback.format_exc()
        except Exception as error:
            fault = "".join(traceback.format_exception(error))
        finally:
            signal.alarm(0)
    return {**OUTCOMES, "seconds": round(time.monotonic() - begin)}, fault


def main(argv):
    """Runs every attack, prints what came of it, and returns the number of faults."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.attack")
    parser.add_argument("examples", type=int, help="how many examples all tests take together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="tests whose names contain this")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args(argv)
    from tests.fuzz import attack

    if sys.modules["__main__"].__dict__ is not vars(attack) and main.__module__ == "__main__":
        return attack.main(argv)  # the tests count in the module of this name

    _tests()
    tests = _tests(options.examples / sum(SHARES))
    torch.set_num_threads(1)

    def alarm(number, frame):
        raise Hangs

    found, faults = {}, {}
    signal.signal(signal.SIGALRM, alarm)
    for name, test in tests.items():
        if options.only in name:
            found[name], fault = _attack(test, options.seed)
            print(f"{name}: {found[name]}", flush=True)
            if fault:
                faults[name] = fault
                print(fault, flush=True)
    total = Counter()
    for counts in found.values():
        total.update(counts)
    kinds = ("calls", "refusals", "other exceptions", "silent NaN", "wrong", "hangs")
    figures = {
        "command": f"python -m tests.fuzz.attack {' '.join(map(str, argv))}",
        "version": infoprobe.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "hypothesis": hypothesis.__version__,
        "seed": options.seed,
        "examples": options.examples,
        "total": {**{kind: total[kind] for kind in kinds}, "tests that failed": len(faults)},
        "tests": found,
    }
    print(json.dumps(figures["total"]))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")
    return len(faults)


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
