"""What tests, benchmarks and documentation import from the package exists, also where only a row of the fault table or a long benchmark runs it."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Modules of the package, and the names that are imported from them, empty for the module itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def exists(module: str, name: str) -> bool:
    """Whether a module of the package can be imported, and has a name or a module below it."""
    try:
        found = importlib.import_module(module)
        return not name or hasattr(found, name) or bool(importlib.import_module(f"{module}.{name}"))
    except ModuleNotFoundError as error:
        return not (error.name or "").startswith("lsgcli")  # an extra that is not installed


def test_what_is_imported_exists():
    missing = []
    for folder in ("tests", "benchmarks", "docs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            names = set(imported(ast.parse(path.read_text(encoding="utf-8"))))
            own = {(module, name) for module, name in names if module.partition(".")[0] == "lsgcli"}
            missing += [f"{path.relative_to(ROOT)}: {module} {name}" for module, name in own if not exists(module, name)]
    assert not missing
