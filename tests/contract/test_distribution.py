"""What files of the repository name exists: packages of every `pip install`, and what they import from the package."""

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsgcli.errors import install_hint

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
FILES = [
    path
    for pattern in ("*.*", "lsgcli/**/*.py", "docs/**/*.md", "docs/**/*.py", "tests/**/*.py", "benchmarks/**/*.py", ".ci/*")
    for path in sorted(ROOT.glob(pattern))
    if path.is_file() and path != Path(__file__)
]
COMMAND = re.compile(r"pip install(?: +-[\w-]+)* +('[^'\n]+'|[^\s'\"`,;)]+)")


def requirements(text):
    """Names and extras that the `pip install` lines of a text ask for; the name is empty for a clone."""
    for word in COMMAND.findall(text):
        if "{" not in word:  # put together by `install_hint`, which is tested below
            name, extras = re.fullmatch(r"(\.[\w/]*|[\w-]+)(?:\[([\w,-]+)\])?", word.strip("'")).groups()
            yield "" if name.startswith(".") else name, tuple(extras.split(",")) if extras else ()


def known():
    listed = [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)]
    return {re.match(r"[\w-]+", one)[0] for one in listed} | {PROJECT["name"], ""}


def test_pip_installs_what_is_meant():
    assert PROJECT["name"] == "lsgcli"
    assert "lsg" not in known()
    assert len(FILES) > 300
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        for name, extras in requirements(text):
            assert name in known(), path
            assert set(extras) <= set(EXTRAS if name in (PROJECT["name"], "") else ()), path
        assert not re.search(rf"\blsg\[({'|'.join(EXTRAS)})", text), path


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_hints_name_the_distribution_and_a_clone(extra):
    assert list(requirements(install_hint(extra))) == [(name, (extra,) if extra else ()) for name in ("lsgcli", "")]


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
