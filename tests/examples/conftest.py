"""What the tests of the examples share."""

import importlib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def load_example(monkeypatch):
    """Imports a module of the examples as their scripts do."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


@pytest.fixture
def assert_refused(capsys):
    """Asserts that a script ends with a message for these arguments."""

    def check(example, arguments, message):
        with pytest.raises(SystemExit):
            example.main(arguments)
        assert message in capsys.readouterr().err

    return check


@pytest.fixture(scope="session")
def mnist5k():
    """The training and the test images that need no files."""
    import infoprobe as ip

    return {split: ip.datasets.load("mnist5k", split=split)[0] for split in ("train", "test")}
