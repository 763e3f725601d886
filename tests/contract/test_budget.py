"""The size of each room of the package stays within the budget that CONTRIBUTING.md states."""

import ast
import re
from collections import Counter
from pathlib import Path

from tests.contract.test_layers import room, sources

TABLE = re.compile(r"^\| `(\w+)` \| ([\d,]+) \|$", re.MULTILINE)
NAMES = ast.expr_context, ast.operator, ast.cmpop, ast.boolop, ast.unaryop


def nodes(text):
    """Nodes of a syntax tree, except docstrings and the names of operators and contexts."""
    tree = ast.parse(text)
    documented = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            docstrings |= {node.body[0], node.body[0].value}
    return sum(not isinstance(node, NAMES) and node not in docstrings for node in ast.walk(tree))


def test_each_room_is_within_its_budget():
    size = Counter()
    for module, text in sources().items():
        size[room(module)] += nodes(text)
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    budget = {name: int(number.replace(",", "")) for name, number in TABLE.findall(text)}
    small = {name for name, count in size.items() if count < 1000} - budget.keys()
    assert budget.keys() | small == set(size)
    over = {name: f"{size[name]} nodes, budget {limit}" for name, limit in budget.items() if size[name] > limit}
    assert not over, "raise the number in CONTRIBUTING.md with the reason in the commit, or delete something"
