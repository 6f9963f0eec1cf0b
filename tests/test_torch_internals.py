"""Private names of torch do what is expected of them, and one file alone uses them."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributions import Distribution, Transform
from torch.distributions import transforms as tt
from torch.optim import Optimizer
from torch.utils._device import DeviceContext

from infoprobe import torch_internals

PACKAGE = Path(torch_internals.__file__).parent


class TestVersion:
    def test_grows_with_each_change_in_place(self):
        x = torch.zeros(3)
        before = torch_internals.version(x)
        x.add_(1)
        x[:2].mul_(2)
        assert torch_internals.version(x) == before + 2
        torch.exp(x)
        assert torch_internals.version(x) == before + 2

    def test_inference_tensors_have_none(self):
        with torch.inference_mode():
            assert torch_internals.version(torch.zeros(3)) is None

    def test_a_tensor_that_refuses_all_functions(self):
        class Refuses(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                raise NotImplementedError

        x = torch.zeros(3)
        x.add_(1)
        assert torch_internals.version(x.as_subclass(Refuses)) == torch_internals.version(x)


class TestPlain:
    def unwrapped(self, transform):
        """What `plain` makes of a tensor within a transform, and what it was."""
        x, seen = torch.randn(4), []

        def watched(y):
            with torch_internals.outside_of_transforms():
                seen.append(torch_internals.plain(y))
            return y.square().sum()

        transform(watched, x)
        return seen[0], x

    @pytest.mark.parametrize(
        "transform",
        [
            lambda f, x: f(x),
            lambda f, x: torch.func.grad(f)(x),
            lambda f, x: torch.func.grad(lambda y: torch.func.grad(f)(y).sum())(x),
            lambda f, x: torch.func.jvp(f, (x,), (x,)),
        ],
        ids=["none", "grad", "grad of grad", "jvp"],
    )
    @pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
    def test_transforms(self, transform):
        found, x = self.unwrapped(transform)
        assert found.data_ptr() == x.data_ptr()
        assert torch.equal(found, x)

    def test_a_dual_tensor(self):
        x = torch.randn(4)
        with torch.autograd.forward_ad.dual_level():
            found = torch_internals.plain(torch.autograd.forward_ad.make_dual(x, 2 * x))
            assert torch.autograd.forward_ad.unpack_dual(found).tangent is None
        assert torch.equal(found, x)

    def test_a_tensor_with_a_gradient(self):
        x = torch.randn(4, requires_grad=True)
        assert not torch_internals.plain(2 * x).requires_grad

    def test_tensors_under_vmap_stay_what_they_are(self):
        shapes = []
        torch.func.vmap(lambda y: shapes.append(torch_internals.plain(y).shape) or y)(
            torch.randn(5, 4)
        )
        assert shapes == [(4,)]


class TestWhatRunsAroundUs:
    def test_in_backward(self):
        seen = []

        class Watched(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                seen.append(torch_internals.in_backward())
                return x * 1

            @staticmethod
            def backward(ctx, gradient):
                seen.append(torch_internals.in_backward())
                return gradient

        Watched.apply(torch.ones(2, requires_grad=True)).sum().backward()
        assert seen == [False, True]
        assert not torch_internals.in_backward()

    def test_under_vmap(self):
        seen = []

        def watched(x):
            seen.append(torch_internals.under_vmap())
            return x.sum()

        x = torch.randn(3, 4)
        watched(x)
        torch.func.grad(watched)(x)
        torch.func.vmap(watched)(x)
        torch.func.vmap(torch.func.grad(watched))(x)
        torch.func.grad(lambda x: torch.func.vmap(watched)(x).sum())(x)
        assert seen == [False, False, True, True, True]
        assert not torch_internals.under_vmap()

    def test_outside_of_transforms(self):
        counts = []

        def watched(x):
            with torch_internals.outside_of_transforms():
                counts.append(torch.zeros(3).add_(1))
            return x.sum()

        x = torch.randn(2, 4)
        watched(x)
        torch.func.grad(watched)(x)
        torch.func.vmap(watched)(x)
        assert all(count.tolist() == [1.0] * 3 for count in counts)  # plain tensors
        assert len(counts) == 3

    def test_module_call(self):
        running = []

        class Watched(nn.Module):
            def forward(self, x):
                frame = sys._getframe()
                while frame is not None:
                    if frame.f_code is torch_internals.module_call():
                        running.append(frame.f_locals["self"])
                    frame = frame.f_back
                return x

        inner = Watched()
        inner.register_forward_hook(lambda *args: None)
        outer = nn.Sequential(nn.Sequential(inner))
        outer(torch.ones(1))
        assert running == [inner, outer[0], outer]


class TestModules:
    def test_compiled_from(self):
        model = nn.Linear(2, 2)
        assert torch_internals.compiled_from(torch.compile(model, backend="eager")) is model

        class PassesOn(nn.Module):
            def __getattr__(self, name):
                return getattr(torch.compile(model, backend="eager"), name)

        for other in (model, nn.DataParallel(model), nn.Sequential(model), PassesOn()):
            assert torch_internals.compiled_from(other) is None

    @pytest.mark.parametrize(
        ("recognises", "kinds"),
        [
            (
                torch_internals.is_batch_norm,
                [
                    nn.BatchNorm1d(2),
                    nn.BatchNorm2d(2),
                    nn.BatchNorm3d(2),
                    nn.SyncBatchNorm(2),
                    nn.LazyBatchNorm2d(),
                ],
            ),
            (
                torch_internals.is_dropout,
                [
                    nn.Dropout(),
                    nn.Dropout1d(),
                    nn.Dropout2d(),
                    nn.Dropout3d(),
                    nn.AlphaDropout(),
                    nn.FeatureAlphaDropout(),
                ],
            ),
        ],
    )
    def test_kinds(self, recognises, kinds):
        assert all(map(recognises, kinds))
        others = [nn.LayerNorm(2), nn.InstanceNorm1d(2), nn.GroupNorm(1, 2), nn.RReLU()]
        assert not any(map(recognises, others))

    @pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
    @pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
    @pytest.mark.parametrize("layer", [nn.Linear(4, 4), nn.LSTM(4, 4)])
    def test_quantized_weights(self, layer):
        if "fbgemm" not in torch.backends.quantized.supported_engines:
            pytest.skip("needs the fbgemm backend")
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(layer), {nn.Linear, nn.LSTM})
        children = {name for module in model.modules() for name, _ in module.named_children()}
        assert len(children & {*torch_internals.QUANTIZED_WEIGHTS}) == 1


class TestTransforms:
    def test_is_inverse_of(self):
        transform, twin = tt.AffineTransform(1.0, 2.0), tt.AffineTransform(1.0, 2.0)
        assert torch_internals.is_inverse_of(transform.inv, transform)
        assert not torch_internals.is_inverse_of(transform.inv, twin)
        assert not torch_internals.is_inverse_of(transform, transform.inv)

    def test_inverse_call(self):
        seen = []

        class Watched(tt.ExpTransform):
            pass

        def call(self, y):
            seen.append(y)
            return y.log()

        setattr(Watched, torch_internals.inverse_call(), call)
        transform, y = Watched(), torch.rand(3)
        assert torch.equal(transform.inv(y), y.log())
        assert len(seen) == 1


A_DEVICE = DeviceContext(torch.device("cpu"))


def in_a_mode(internals, popped=None, functions=1):
    """Pretends that modes are at work, since torch needs the names as well to enter one."""
    internals._FUNCTION_MODES.value = lambda: functions
    internals._DISPATCH_MODES.value = lambda: 1
    if popped is not None:
        internals._POP_MODE.value = lambda: popped
    return internals


# What to delete from torch, and a call that then has to say so.
VANISHED = {
    "torch._C._current_graph_task_id": lambda internals: internals.in_backward(),
    "torch._C.DisableTorchFunctionSubclass": lambda i: i.version(nn.Parameter(torch.ones(1))),
    "torch._C._functorch.peek_interpreter_stack": lambda i: i.outside_of_transforms(),
    "torch._C._functorch.get_interpreter_stack": lambda internals: internals.under_vmap(),
    "torch._C._functorch.TransformType": lambda internals: torch.func.vmap(
        lambda x: x * internals.under_vmap()
    )(torch.ones(2)),
    "torch._functorch.pyfunctorch.temporarily_clear_interpreter_stack": lambda i: torch.func.vmap(
        lambda x: i.outside_of_transforms()
    )(torch.ones(2)),
    "torch._C._functorch.is_gradtrackingtensor": lambda i: i.plain(torch.ones(1)),
    "torch._C._functorch.get_unwrapped": lambda internals: torch.func.grad(internals.plain)(
        torch.ones(())
    ),
    "torch.nn.Module._call_impl": lambda internals: internals.module_call(),
    "torch._C._is_tracing": lambda internals: internals.is_traced(),
    "torch._C._len_torch_dispatch_stack": lambda internals: internals.outside_of_modes(),
    "torch._C._len_torch_function_stack": lambda internals: internals.outside_of_modes(),
    "torch._C._dispatch_tls_is_dispatch_key_included": lambda i: i.is_traced(),
    "torch._C.DispatchKey": lambda i: i.is_traced(),
    "torch.utils._python_dispatch._get_current_dispatch_mode_stack": lambda i: in_a_mode(
        i
    ).is_traced(),
    "torch._C._pop_torch_function_stack": lambda i: in_a_mode(i).outside_of_modes().__enter__(),
    "torch.utils._device.DeviceContext": lambda i: in_a_mode(i, 0).outside_of_modes().__enter__(),
    "torch._C._push_on_torch_function_stack": lambda i: (
        in_a_mode(i, A_DEVICE).outside_of_modes().__enter__()
    ),
    "torch.utils._python_dispatch._disable_current_modes": lambda i: (
        in_a_mode(i, functions=0).outside_of_modes().__enter__()
    ),
    "torch._subclasses.fake_tensor.is_fake": lambda i: i.is_fake(nn.Parameter(torch.ones(1))),
    "torch.nn.modules.batchnorm._BatchNorm": lambda i: i.is_batch_norm(nn.Linear(1, 1)),
    "torch.nn.modules.dropout._DropoutNd": lambda i: i.is_dropout(nn.Linear(1, 1)),
    "torch.distributions.transforms._InverseTransform": lambda internals: internals.is_inverse_of(
        tt.ExpTransform(), tt.ExpTransform()
    ),
    "torch.distributions.Transform._inv_call": lambda internals: internals.inverse_call(),
}


class TestWhenTorchChanges:
    """The error names what is missing, what it was for, and the way out."""

    def message(self, name):
        return (
            rf"infoprobe uses torch's private {re.escape(name)}.* to .*, and torch "
            rf"{re.escape(torch.__version__)} does not have it. Update infoprobe, or install "
            r"a version of torch .*: torch<=2\.\d+\.$"
        )

    @pytest.mark.parametrize("name", VANISHED)
    def test_a_name_that_vanished(self, name, monkeypatch):
        # A copy of the module that has looked nothing up.
        spec = importlib.util.spec_from_file_location("_copy", torch_internals.__file__)
        internals = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(internals)
        monkeypatch.delattr(name)
        with pytest.raises(RuntimeError, match=self.message(name)) as caught:
            VANISHED[name](internals)
        assert caught.type is internals.TorchChangedError

    def test_an_attribute_that_vanished(self):
        class Bare:
            def is_inference(self):
                return False

        class OptimizedModule(nn.Module):
            pass

        inverse, transform = tt.ExpTransform().inv, tt.ExpTransform()
        del inverse._inv
        for name, use in {
            "Tensor._version": lambda: torch_internals.version(Bare()),
            "OptimizedModule._orig_mod": lambda: torch_internals.compiled_from(OptimizedModule()),
            "_InverseTransform._inv": lambda: torch_internals.is_inverse_of(inverse, transform),
        }.items():
            with pytest.raises(torch_internals.TorchChangedError, match=self.message(name)):
                use()

    def test_the_level_of_forward_mode_vanished(self, monkeypatch):
        monkeypatch.delattr(torch.autograd.forward_ad, "_current_level")
        name = "autograd.forward_ad._current_level"
        with pytest.raises(torch_internals.TorchChangedError, match=self.message(name)):
            torch_internals.plain(torch.ones(2))

    def test_the_flag_of_a_trace_vanished(self, monkeypatch):
        for name in ("_get_is_fx_tracing", "_is_fx_tracing_flag"):
            monkeypatch.delattr(torch.fx._symbolic_trace, name, raising=False)
        name = "fx._symbolic_trace._is_fx_tracing_flag"
        with pytest.raises(torch_internals.TorchChangedError, match=self.message(name)):
            torch_internals.is_traced()

    @pytest.mark.parametrize("traces", [False, True])
    def test_the_flag_of_a_trace_in_either_form(self, monkeypatch, traces):
        fx = torch.fx._symbolic_trace
        monkeypatch.delattr(fx, "_get_is_fx_tracing", raising=False)
        monkeypatch.setattr(fx, "_is_fx_tracing_flag", traces, raising=False)
        assert torch_internals.is_traced() is traces
        monkeypatch.delattr(fx, "_is_fx_tracing_flag")
        monkeypatch.setattr(fx, "_get_is_fx_tracing", lambda: traces, raising=False)
        assert torch_internals.is_traced() is traces

    def test_every_name_is_covered(self):
        source = Path(torch_internals.__file__).read_text()
        names = re.findall(r'_Private\(\s*"([\w.]+)"', source)
        assert len(names) == len(VANISHED)
        for name in names:
            assert any(name.startswith(deleted) for deleted in VANISHED), name

    def test_the_version_in_the_message_is_the_one_that_tests_ran_with(self):
        text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
        passed = re.findall(r"^\| 3\.\d+ \| \w+ \| (\d+)\.(\d+)[.\d]* \|$", text, re.MULTILINE)
        newest = max((int(major), int(minor)) for major, minor in passed)
        assert ".".join(map(str, newest)) == torch_internals.TESTED_TORCH


def _is_private(name):
    return name.startswith("_") and not name.startswith("__")


# Private attributes that objects of torch have, and the names that torch_internals uses.
OF_TORCH = {
    name
    for one in (torch.Tensor, nn.Module(), Transform(), Distribution, Optimizer)
    for name in dir(one)
    if _is_private(name)
} | {
    name
    for text in re.findall(r'"([\w.]+)"', Path(torch_internals.__file__).read_text())
    for name in text.split(".")
    if _is_private(name)
}


def private_names(source):
    """The private names of torch that a file uses."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    own, roots = set(), set()
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            own.add(node.name)
        elif isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Store):
            own.add(node.attr if isinstance(node, ast.Attribute) else node.id)
        elif isinstance(node, ast.Import):
            roots |= {
                name.asname or "torch" for name in node.names if name.name.split(".")[0] == "torch"
            }
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            roots |= {name.asname or name.name for name in node.names}
    found = set()
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = getattr(node, "module", None) or ""
            for name in node.names:
                parts = [*module.split("."), *name.name.split(".")]
                if "torch" in (parts[0], parts[1]) and any(map(_is_private, parts)):
                    found.add(".".join(filter(None, parts)))
        elif isinstance(node, ast.Attribute) and _is_private(node.attr):
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            of_torch = isinstance(root, ast.Name) and root.id in roots
            if of_torch or (node.attr in OF_TORCH and node.attr not in own):
                found.add(ast.unparse(node))
        elif isinstance(node, ast.Constant) and node.value in OF_TORCH - own:
            found.add(node.value)
    return found


class TestOneFileAlone:
    @pytest.mark.parametrize(
        "source",
        [
            "import torch\ntorch._C._get_tracing_state()",
            "import torch as t\nt._C._get_tracing_state()",
            "from torch import nn\nnn.Module._call_impl",
            "from torch.nn.modules.batchnorm import _BatchNorm",
            "from torch._functorch import pyfunctorch",
            "import torch._dynamo",
            "from torch import _C",
            "from torch.autograd import forward_ad\nforward_ad._current_level",
            "def f(module): return module._modules",
            "def f(tensor): return tensor._version",
            "def f(transform): return transform._inv",
            "def f(module): return getattr(module, '_orig_mod', None)",
            "names = {'_inv_call': 'inverse'}",
        ],
    )
    def test_what_is_found(self, source):
        assert private_names(source)

    @pytest.mark.parametrize(
        "source",
        [
            "import torch\ntorch.nn.Module.__call__",
            "class A:\n    def __init__(self): self._version = 1\n    def f(self): self._version",
            "def f(pair): return pair._replace(a=1)",
            "from infoprobe.taps import _own",
            "text = 'the _orig_mod of a module'",
        ],
    )
    def test_what_is_not(self, source):
        assert not private_names(source)

    def test_no_other_file_uses_private_names(self):
        found = {
            str(path.relative_to(PACKAGE)): names
            for path in sorted(PACKAGE.rglob("*.py"))
            if path.name != "torch_internals.py" and (names := private_names(path.read_text()))
        }
        assert found == {}
