"""The text of a lambda, as the user wrote it."""

from __future__ import annotations

import ast
import copy
import functools
import linecache
import types
from collections.abc import Mapping, Sequence
from typing import Any


def text_of(function: types.FunctionType) -> tuple[str, bool] | None:
    """The text of a lambda, with the numbers and texts that it takes from around it filled in.

    Arguments:
        function: A lambda.

    Returns:
        The text, and whether it tells all: not if the lambda takes other objects from the
        function around it or as defaults. ``None`` if the text is not there, as in a file that
        has changed, or if it may be that of another lambda in the same line.

    Example:
        >>> from infoprobe.probing.lambdas import text_of
        >>> def column(i):
        ...     return lambda x: x[:, i]
        >>> text_of(column(2))
        ('lambda x: x[:, 2]', True)
    """
    node = _node_of(function.__code__)
    if node is None:
        return None
    names, cells = function.__code__.co_freevars, function.__closure__ or ()
    around = {name: cell.cell_contents for name, cell in zip(names, cells, strict=True)}
    defaults = function.__defaults__ or ()
    plain = {name: value for name, value in around.items() if _is_plain(value)}
    filled = _Filled(plain).visit(copy.deepcopy(node))
    filled.args.defaults = [
        ast.Constant(value) if _is_plain(value) else default
        for value, default in zip(defaults, filled.args.defaults, strict=True)
    ]
    tells_all = len(plain) == len(around) and all(map(_is_plain, defaults))
    return ast.unparse(filled), tells_all and not function.__kwdefaults__


def does(code: types.CodeType) -> tuple[Any, ...]:
    """What a function does, without where it stands."""
    inner = [does(x) if isinstance(x, types.CodeType) else x for x in code.co_consts]
    return code.co_code, code.co_names, inner


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


@functools.lru_cache(maxsize=256)
def _node_of(code: types.CodeType) -> ast.Lambda | None:
    """The lambda in the file that was compiled to this code."""
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    except (SyntaxError, ValueError):  # not Python alone, such as a cell with a command of IPython
        return None
    # Methods of modules are compiled in another way than those of other objects.
    imports = [line for line in tree.body if isinstance(line, ast.Import | ast.ImportFrom)]
    found = {
        ast.unparse(node): node
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda)
        and node.lineno == code.co_firstlineno
        and does(_compiled(node, code.co_freevars, imports)) == does(code)
    }
    return next(iter(found.values())) if len(found) == 1 else None


def _compiled(
    node: ast.Lambda, around: Sequence[str], imports: Sequence[ast.stmt]
) -> types.CodeType:
    """The code of a lambda that takes these names from a function around it."""
    names = ast.arguments([], [ast.arg(name) for name in around], None, [], [], None, [])
    inside = ast.Lambda(names, node) if around else node
    module = ast.fix_missing_locations(ast.Module([*imports, ast.Expr(inside)], []))
    code = compile(module, "", "exec")
    for _ in range(2 if around else 1):
        code = next(part for part in code.co_consts if isinstance(part, types.CodeType))
    return code


class _Filled(ast.NodeTransformer):
    """Puts values in place of names that are read."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        is_read = isinstance(node.ctx, ast.Load)
        return ast.Constant(self._values[node.id]) if is_read and node.id in self._values else node
