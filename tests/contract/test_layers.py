"""The layers of the package: a module imports only from its own room and from rooms below, and no modules import each other in a circle.

A room is a folder or a file directly in ``lsgcli/``. Imports inside functions count; those under ``if TYPE_CHECKING`` do for circles alone.
"""

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import lsgcli

ROOT = Path(lsgcli.__file__).parent
# From the bottom up. Rooms on one line do not import each other.
LAYERS = (
    {"errors"},
    {"registry"},
    {"system"},
    {"config"},
    {"neurons", "data"},
    {"models"},
    {"store"},
    {"analysis"},
    {"training"},
    {"runs"},
    {"export"},
    {"inference"},
    {"sweeps"},
    {"report"},
    {"loggers"},
    {"api"},
    {"__init__"},
    {"cli"},
    {"__main__"},
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def sources() -> dict[str, str]:
    modules = {}
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text(encoding="utf-8")
    return modules


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imported(text: str, modules: Mapping[str, str], for_types: bool = False) -> Iterator[str]:
    """Modules of the package that a source text imports while the program runs, and ``for_types`` also those for type checkers."""
    nodes = [ast.parse(text)]
    while nodes:
        node = nodes.pop()
        if not for_types and isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "lsgcli")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "lsgcli":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else str(node.module) for name in names)


def upward(modules: Mapping[str, str]) -> list[str]:
    """Imports of a room that is not below, other than those of ``lsgcli/__init__.py``."""
    return [
        f"{module} imports {target}, which is not below it"
        for module, text in modules.items()
        for target in imported(text, modules)
        if room(module) not in (room(target), "__init__") and LEVEL[room(target)] >= LEVEL[room(module)]
    ]


def circle(modules: Mapping[str, str]) -> list[str]:
    """Modules that import each other, also where only type checkers do."""
    graph = {
        module: set(imported(text, modules, for_types=True)) - {module, "lsgcli"}
        for module, text in modules.items()
        if module != "lsgcli"
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_every_room_has_a_layer():
    assert {room(module) for module in sources()} == set(LEVEL)


def test_imports_point_downwards():
    assert upward(sources()) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circle(sources()) == []


@pytest.mark.parametrize(
    "text", ["from lsgcli.cli import train", "def f():\n    import lsgcli.cli.train", "from lsgcli import cli", "import lsgcli"]
)
def test_an_import_that_points_upwards_is_found(text):
    assert upward({"lsgcli.cli": "", "lsgcli.cli.train": "", "lsgcli.system.planted": text}) != []


def test_a_circle_is_found():
    planted = {"lsgcli.data.a": "from lsgcli.data import b", "lsgcli.data.b": "def f():\n    from lsgcli.data.a import x"}
    assert set(circle(planted)) == set(planted)
    planted["lsgcli.data.b"] = "if TYPE_CHECKING:\n    from lsgcli.data.a import x"
    assert set(circle(planted)) == set(planted)
