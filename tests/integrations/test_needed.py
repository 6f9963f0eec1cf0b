"""An integration whose library is not there says what to install."""

import importlib
import subprocess
import sys

import pytest

PACKAGES = {
    "lightning": ["lightning", "pytorch_lightning"],
    "hugging_face": ["transformers"],
    "torchmetrics": ["torchmetrics"],
}


@pytest.mark.parametrize("name", PACKAGES)
def test_what_to_install(name, monkeypatch):
    package = PACKAGES[name][0]
    for hidden in PACKAGES[name]:
        monkeypatch.setitem(sys.modules, hidden, None)
    monkeypatch.delitem(sys.modules, f"infoprobe.integrations.{name}", raising=False)
    with pytest.raises(ImportError, match=rf" needs {package}: pip install {package}\."):
        importlib.import_module(f"infoprobe.integrations.{name}")


def test_lightning_by_its_older_name():
    pytest.importorskip("pytorch_lightning")
    code = """
import sys
sys.modules["lightning"] = None
import pytorch_lightning
from infoprobe.integrations.lightning import ProbeCallback
assert issubclass(ProbeCallback, pytorch_lightning.Callback)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
