"""What the source text says of networks, neurons, methods and losses: the constants and the docstrings of their classes.

Settings depend on some of them, and importing the classes takes torch, and with it longer than everything else that is done with settings.
"""

import ast
import inspect
import re
from functools import cache
from types import SimpleNamespace
from typing import Any

from lsgcli import registry
from lsgcli.system.schema import Record


def traits(kind: str, name: str) -> Any:
    """An entry; or, while it is not imported, an object with the constants of its class, of a method with its rule and its neuron.

    Raises:
        ConfigError: as :func:`lsgcli.registry.get`.
    """
    node = _entry(kind, name)
    if node is None:
        return registry.get(kind, name)
    if kind != "method":
        return _constants(node)
    learned, *parts = node.args  # a row: Method(learns_decay, widths.RULE(...), models.NEURON)
    width, neuron = [*map(_constants, parts), None][:2]
    learns_decay = ast.literal_eval(learned)
    text = described(learns_decay, neuron or width)
    return SimpleNamespace(learns_decay=learns_decay, width=width, neuron=neuron, __doc__=text)


def described(learns_decay: bool, shown: Any) -> str:
    """The description of a method, with that of its neuron or its width rule."""
    return f"The decay is {'learned' if learns_decay else 'fixed'}; {shown.__doc__ or ''}"


def takes(kind: str, name: str, argument: str) -> bool:
    """Whether a registered function has an argument of this name."""
    node = _entry(kind, name)
    if node is None:
        return argument in inspect.signature(registry.get(kind, name)).parameters
    return argument in [one.arg for one in node.args.args]


def summary(kind: str, name: str) -> str:
    """The first line of the docstring of an entry, or the title of a data set. Imports only data sets, and entries of other packages."""
    node = None if kind == "dataset" else _entry(kind, name)
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        text = ast.get_docstring(node)
    elif node is not None:
        text = traits(kind, name).__doc__
    else:
        entry = registry.get(kind, name)
        record = not isinstance(entry, type)  # around a function
        documented = getattr(entry, "apply", getattr(entry, "parse", entry)) if record else entry
        text = getattr(entry, "title", "") or documented.__doc__
    return (text or "").strip().partition("\n")[0]


def _entry(kind: str, name: str) -> Any:
    """What the source text registers under a name: a class, a function or a call; None if it is imported, or of another package."""
    module = registry.not_imported(kind, name)
    mark = f"register({kind!r}, {name!r})"
    for node in _body(module) if module else ():
        value = getattr(node, "value", None)  # of ``register(...)(...)``, maybe in an assignment
        called = getattr(value, "func", None)
        marks = getattr(node, "decorator_list", [called] if called else [])
        if any(ast.unparse(one).endswith(mark) for one in marks):
            return value.args[0] if value else node
    return None


@cache
def _body(module: str) -> list[ast.stmt]:
    file = registry.ROOT.parent.joinpath(*module.split("."))
    return ast.parse((file / "__init__.py" if file.is_dir() else file.with_suffix(".py")).read_bytes()).body


def _constants(node: Any) -> SimpleNamespace:
    """The constants of a class, given as itself, by name, or by a call."""
    name = getattr(node, "name", "") or ast.unparse(getattr(node, "func", node)).rpartition(".")[2]
    return SimpleNamespace(**_of_class(name))


@cache
def _of_class(name: str) -> Record:
    """The constants of a class of neurons, networks or formats, with those of its bases; its docstring is ``__doc__``."""
    for file in sorted(file for room in ("neurons", "models", "export") for file in (registry.ROOT / room).rglob("*.py")):
        text = file.read_bytes()
        if not re.search(rf"^class {name}\b".encode(), text, re.MULTILINE):
            continue
        node = next(one for one in ast.parse(text).body if isinstance(one, ast.ClassDef) and one.name == name)
        found: Record = {}
        for base in reversed(node.bases):
            found |= _of_class(ast.unparse(base).rpartition(".")[2])
        for line in node.body:
            if isinstance(line, ast.Assign | ast.AnnAssign) and line.value:
                key = ast.unparse(line.targets[0] if isinstance(line, ast.Assign) else line.target)
                try:
                    found[key] = ast.literal_eval(line.value)
                except ValueError:
                    found.pop(key, None)  # of other names
        return found | {"__doc__": ast.get_docstring(node)}
    return {}
