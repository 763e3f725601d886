"""The shell's completion, by the protocol of bash, and commands that take options as objects."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest
import typer
from typer.testing import CliRunner

import lsgcli.cli
from lsgcli import registry
from lsgcli.cli.options import Chosen, with_options


def variables(*words):
    """What the shell sets to complete the last word."""
    line = " ".join(["lsg", *words])
    return {"COMP_WORDS": line, "COMP_CWORD": str(len(words)), "_LSG_COMPLETE": "complete_bash"}


@pytest.fixture
def complete(program):
    def run(*words):
        done = program(env=variables(*words))
        assert done.stderr == ""
        return done.stdout.split()

    return run


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["da"], ["data"]),
        (["train", "--width-m"], ["--width-multiplier"]),
        (["train", "--dataset", ""], registry.names("dataset")),
        (["train", "--method", "m"], ["matched-width", "measured-sigma", "mpd-agl"]),
        (["train", "--precision", ""], ["auto", "fp32", "bf16", "fp16"]),
        (["data", "show", "--slicing", "w"], ["window"]),
        (["train", "--data-dir", ""], []),  # a path: the shell's own completion
    ],
    ids=" ".join,
)
def test_values(complete, words, offered):
    assert complete(*words) == offered


def test_nothing_heavy_is_imported():
    heavy = "atexit.register(lambda: print(*{'torch', 'numpy', 'numba'} & set(sys.modules)))"
    code = f"import atexit, sys; sys.argv[0] = 'lsg'; {heavy}; from lsgcli.cli.app import main; main()"
    environment = {**os.environ, **variables("train", "--dataset", "digits")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout.split(), done.stderr) == (["digits", "digits-dvs"], "")


class Inner(NamedTuple):
    rate: Annotated[float, typer.Option(min=0.0)] = 0.5


class Outer(NamedTuple):
    name: Annotated[str, typer.Argument()]
    inner: Inner
    tags: Annotated[list[str] | None, typer.Option()] = None


def command(*, outer: Outer, quiet: bool = False, settings: Annotated[dict[str, Any], Chosen({"lr", "epochs"})]) -> None:
    """A command."""
    print(outer, quiet, settings)


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("x", "Outer(name='x', inner=Inner(rate=0.5), tags=None) False {}"),
        ("--rate 2 --tags a x --tags b", "Outer(name='x', inner=Inner(rate=2.0), tags=['a', 'b']) False {}"),
        ("x --lr 0.1 --quiet", "Outer(name='x', inner=Inner(rate=0.5), tags=None) True {'lr': 0.1}"),
    ],
)
def test_an_object_is_made_of_its_options(line, printed):
    app = typer.Typer()
    app.command()(with_options(command))
    assert CliRunner().invoke(app, line.split()).stdout == printed + "\n"


def test_options_are_in_the_order_of_parameters_and_fields():
    assert list(inspect.signature(with_options(command)).parameters) == ["name", "rate", "tags", "quiet", "epochs", "lr"]


def test_no_function_takes_more_than_eight_parameters():
    files = sorted(Path(lsgcli.cli.__file__).parent.rglob("*.py"))
    functions = [node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    assert len(functions) > 50
    assert [f.name for f in functions if len(f.args.args + f.args.kwonlyargs) > 8] == []
