import subprocess
import sys
from pathlib import Path

import infoprobe as ip


def test_public_names_are_there():
    assert len(set(ip.__all__)) == len(ip.__all__)
    for name in set(ip.__all__) - {"ArrayLike"}:  # a union, which can have no docstring
        assert getattr(ip, name).__doc__, name


def test_completion_shows_public_names_alone():
    for module in (ip, ip.datasets, ip.libraries, ip.models):
        assert dir(module) == sorted(module.__all__)


def test_importing_it_is_light():
    optional = ["FrEIA", "scipy", "sklearn", "pandas", "matplotlib", "mlxtend", "PIL", "pooch"]
    optional.append("torch._dynamo")
    code = f"import sys, infoprobe; print([m for m in {optional} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_holds_code_and_templates_alone():
    files = [path for path in Path(ip.__file__).parent.rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files if path.parent.name != "__pycache__"}
    assert kinds == {".py", ".typed", ".html", ".css", ".js"}
