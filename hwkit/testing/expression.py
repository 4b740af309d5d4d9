"""Constraints written as text, as in recorded tuning spaces: parsed, never evaluated as code."""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ArgumentError

__all__ = ["constraint"]

Getter = Callable[[Mapping[str, Any]], Any]

_LONGEST, _MOST_POWER = 2000, 64


def _power(base: Any, exponent: Any) -> Any:
    if abs(exponent) > _MOST_POWER:
        raise ArgumentError(f"a power of {exponent} in a constraint is more than {_MOST_POWER}")
    return base**exponent


_BINARY: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_UNARY: dict[type[ast.AST], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_CALLS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}


def constraint(text: str) -> Callable[..., bool]:
    """Return the predicate that ``text`` describes, its parameters named after the tunables.

    Numbers, text, names, arithmetic, comparisons (chains and ``in`` too), ``and``,
    ``or``, ``not``, ``x if c else y``, ``min``, ``max``, ``abs``; division by zero is false.

    Raises:
        ArgumentError: the text holds anything else.
    """
    try:
        if len(text) > _LONGEST:
            raise SyntaxError(f"longer than {_LONGEST} characters")
        tree = ast.parse(text.strip(), mode="eval")
        get = _compile(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ArgumentError(f"constraint {text[:80]!r} cannot be read: {error}") from None
    called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    names = dict.fromkeys(
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called
    )

    def test(**values: Any) -> bool:
        try:
            return bool(get(values))
        except ZeroDivisionError:
            return False

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, keyword) for name in names]
    test.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return test


def _compile(node: ast.AST) -> Getter:
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str)):
        value = node.value
        return lambda values: value
    if isinstance(node, ast.Name):
        name = node.id
        return lambda values: values[name]
    if isinstance(node, ast.BoolOp):
        parts = [_compile(v) for v in node.values]
        every = all if isinstance(node.op, ast.And) else any
        return lambda values: every(part(values) for part in parts)
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        unary, operand = _UNARY[type(node.op)], _compile(node.operand)
        return lambda values: unary(operand(values))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        binary, left, right = _BINARY[type(node.op)], _compile(node.left), _compile(node.right)
        return lambda values: binary(left(values), right(values))
    if isinstance(node, ast.IfExp):
        test, yes, no = _compile(node.test), _compile(node.body), _compile(node.orelse)
        return lambda values: yes(values) if test(values) else no(values)
    if isinstance(node, (ast.List, ast.Tuple)):
        members = [_compile(v) for v in node.elts]
        return lambda values: [member(values) for member in members]
    if isinstance(node, ast.Compare):
        return _comparison(node)
    if isinstance(node, ast.Call) and not node.keywords and ast.unparse(node.func) in _CALLS:
        call, given = _CALLS[ast.unparse(node.func)], [_compile(a) for a in node.args]
        return lambda values: call(*[argument(values) for argument in given])
    raise ValueError(f"{ast.unparse(node)!r} is not arithmetic, a comparison or a condition")


def _comparison(node: ast.Compare) -> Getter:
    terms = [_compile(node.left), *map(_compile, node.comparators)]
    tests: list[Callable[[Any, Any], Any]] = []
    for op in node.ops:
        if isinstance(op, (ast.In, ast.NotIn)):
            tests.append(_contained if isinstance(op, ast.In) else _not_contained)
        elif type(op) in _BINARY:
            tests.append(_BINARY[type(op)])
        else:
            raise ValueError("'is' has no meaning for tunables")
    return lambda values: all(
        test(left(values), right(values))
        for test, left, right in zip(tests, terms[:-1], terms[1:], strict=True)
    )


def _contained(left: Any, right: Any) -> bool:
    return left in right


def _not_contained(left: Any, right: Any) -> bool:
    return left not in right
