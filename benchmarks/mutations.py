"""Mutations: small faults that can be put into a Python file."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
SIGNS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
}  # fmt: skip
LOGGERS = {"log", "logger", "logging", "warnings"}  # messages are not results


@dataclass(frozen=True)
class Mutation:
    """Replaces ``old``, which begins at character ``start`` of the file, by ``new``."""

    file: str  # relative to the root of the repository
    operator: str
    line: int  # from 1
    start: int
    old: str
    new: str
    tests: tuple[str, ...] = ()  # test files; empty: the tests that cover the line

    def apply(self, text: str) -> str:
        """``text``, the whole file, with the fault in it. Raises ValueError if the file has changed."""
        if not text.startswith(self.old, self.start):
            raise ValueError(f"{self.file}:{self.line} no longer reads {self.old!r}")
        return text[: self.start] + self.new + text[self.start + len(self.old) :]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.operator}: {_short(self.old)} -> {_short(self.new)}"


def replaced(file: str, old: str, new: str, about: str, *tests: str) -> Mutation:
    """The mutation that replaces ``old``. Raises ValueError if ``old`` is not in the file exactly once."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise ValueError(f"{file} has {old!r} {text.count(old)} times, expected once")
    start = text.index(old)
    return Mutation(file, about, text.count("\n", 0, start) + 1, start, old, new, tests)


def mutations(file: str) -> list[Mutation]:
    """Every mutation that the operators find in the functions of a file."""
    text = (ROOT / file).read_text(encoding="utf-8")
    lines = [0]
    for line in text.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    found = []
    for operator, node, new in _changes(ast.parse(text)):
        start = lines[node.lineno - 1] + _characters(text, lines, node.lineno, node.col_offset)
        end = lines[node.end_lineno - 1] + _characters(text, lines, node.end_lineno, node.end_col_offset)
        found.append(Mutation(file, operator, node.lineno, start, text[start:end], new))
    return found


def _characters(text: str, lines: list[int], number: int, offset: int) -> int:
    """The character at a byte offset of a line: ast counts bytes."""
    line = text[lines[number - 1] : lines[number]]
    return len(line.encode()[:offset].decode())


def _changes(tree: ast.Module) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
    """(operator, the node whose text is replaced, its new text)."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for statement in function.body:
                for node in _nodes(statement):
                    for operator, new in _mutants(node):
                        yield operator, node, new


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and its parts, without annotations, strings, log lines, and inner functions (found separately)."""
    if isinstance(node, ast.FunctionDef | ast.JoinedStr):
        return
    if isinstance(node, ast.Expr) and (_is_text(node.value) or _logs(node.value)):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name == "annotation" or (isinstance(node, ast.keyword) and node.arg == "strict"):  # zip(..., strict=True)
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _nodes(child)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _logs(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    while isinstance(node, ast.Call | ast.Attribute):
        node = node.func if isinstance(node, ast.Call) else node.value
    return isinstance(node, ast.Name) and node.id in LOGGERS


def _mutants(node: ast.AST) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Compare(left, [first, *others], rights) if type(first) in COMPARISONS:
            yield "comparison", f"({ast.unparse(ast.Compare(left, [COMPARISONS[type(first)](), *others], rights))})"
        case ast.Constant(bool(value)):
            yield "constant", str(not value)
        case ast.Constant(int(value)):
            yield "constant", str(value + 1)
        case ast.Constant(float(value)):
            yield "constant", str(2 * value if value else 1.0)
        case ast.BinOp(left, sign, right) if type(sign) in SIGNS and not (_is_text(left) or _is_text(right)):
            yield "sign", f"({ast.unparse(ast.BinOp(left, SIGNS[type(sign)](), right))})"
        case ast.UnaryOp(ast.USub() | ast.Not(), operand):
            yield "sign", f"({ast.unparse(operand)})"
        case ast.BoolOp(operator, values):
            other = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield "sign", f"({ast.unparse(ast.BoolOp(other, values))})"
        case ast.Expr(ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break():
            yield "removed statement", "pass"
        case ast.Assign([ast.Attribute() | ast.Subscript(), *_]):
            yield "removed statement", "pass"
        case ast.Call(function, [first, second, *others], keywords) if ast.unparse(first) != ast.unparse(second):
            if not isinstance(first, ast.Starred) and not isinstance(second, ast.Starred):
                yield "swapped argument", ast.unparse(ast.Call(function, [second, first, *others], keywords))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."
