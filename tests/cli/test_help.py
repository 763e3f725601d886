"""Help pages, quick, complete and the same at any width; the shell's completion, by the protocol of bash."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest
import typer
import typer.main
from typer.testing import CliRunner

import lsgcli.cli
from lsgcli import registry
from lsgcli.cli.app import COMMANDS, app
from lsgcli.cli.data import COMMANDS as OF_DATA
from lsgcli.cli.names import KINDS
from lsgcli.cli.options import Chosen, with_options
from lsgcli.config.run import COMMON, FIELDS, option_name

PAGES = [*([name] for name in COMMANDS), [], *(["data", name] for name in OF_DATA)]  # train is the first
HEAVY = {"torch", "torchvision", "tonic", "numba", "numpy", "scipy", "PIL", "h5py", "aedat", "rich", "pydantic"}
SCRIPT = f"""
import sys
from lsgcli.cli.app import app
for page in {PAGES!r}:
    try:
        app([*page, "--help"])
    except SystemExit as end:
        assert not end.code, page
    if page == ["train"]:
        print("other", *({{"lsgcli.cli.ablate", "lsgcli.cli.export", "lsgcli.cli.data"}} & set(sys.modules)), file=sys.stderr)
print("heavy", *({HEAVY!r} & set(sys.modules)), file=sys.stderr)
"""


def test_help_imports_the_command_alone_and_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["other", "heavy"]
    assert done.stdout.count("Usage: ") == len(PAGES)


@pytest.mark.parametrize("columns", ["40", "200"])
def test_no_name_is_cut_off(lsg, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    group = typer.main.get_command(app)
    for name in COMMANDS:
        assert f"  {name}  " in lsg("--help").stdout
        command, page = group.get_command(None, name), lsg(name, "--help-all").stdout
        names = (
            list(OF_DATA)
            if name == "data"
            else [o for p in command.params if not p.hidden for o in (*p.opts, *p.secondary_opts) if "-" in o]
        )
        for wanted in names:
            assert wanted in page, (name, wanted)
        if name == "train":
            assert all(choice in page for choice in registry.names("arch"))  # not broken at their hyphens
    for name in OF_DATA:
        assert f" data {name} " in lsg("data", name, "--help").stdout


def test_help_shows_common_settings_and_names_the_complete_page(lsg):
    page, complete = lsg("train", "--help").stdout, lsg("train", "--help-all").stdout
    shown = {name for name in FIELDS if f"{option_name(name)} " in page or f"{option_name(name)}, " in page}
    assert shown >= COMMON
    assert "--mix-until" not in page
    assert "--mix-until" in complete
    assert page.rstrip().endswith("`lsg train --help-all`, and docs/settings.md.")
    options = [line for line in page.splitlines() if re.match(r"  -", line)]
    assert len([line for line in options if "--help" not in line]) == 15
    assert page.index("lsg train --config run") < page.index("Options:")  # examples first
    assert "more options" not in complete + lsg("eval", "--help").stdout


def test_help_all_prints_the_page_of_every_command(lsg):
    every = lsg("--help-all").stdout
    for name in ("train", "eval", "data prepare"):
        assert lsg(*name.split(), "--help-all").stdout.rstrip() in every
    assert lsg("data", "--help-all").stdout.count("Usage: lsg data") == 1 + len(OF_DATA)


def test_styles_are_for_a_terminal_that_wants_them(lsg, monkeypatch):
    assert "\x1b" not in lsg("train", "--help").stdout
    assert "\x1b[1mTraining" in lsg("train", "--help", color=True).stdout


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it fails
from lsgcli.cli.app import main
for line in sys.stdin.read().splitlines():
    status, *words = line.split()
    sys.argv = ["lsg", *words]
    try:
        main()
        ended = 0
    except SystemExit as end:
        ended = end.code or 0
    assert ended == int(status), (ended, line)
"""
LINES = """
0 train --print-config --neuron psn
0 train --print-config --dataset cifar10 --arch resnet19 --method trainable-decay
0 recipe clif
0 ablate --print-commands --seeds 0 --out sweep
0 ablate --collect sweep
2 ablate --collect nowhere
2 ablate --table 9
2 ablate --grid nonsense=1
2 train --nonsense
2 train --epochs x
2 train --method nonsense
2 train --neuron clif --reset soft
2 train --config nowhere.toml
2 train --resume nowhere
4 train --init-from nowhere.safetensors
2 tune nonsense=1
4 eval nowhere
4 predict nowhere image.png
4 show nowhere
2 show --arch nonsense
4 export nowhere -o net.onnx
4 inspect-gradients nowhere
2 inspect-gradients nowhere --csv --json
2 diagnose nowhere.py
2 compare nowhere
2 runs nowhere
""" + "\n".join(f"0 list {kind}" for kind in KINDS)


def test_what_needs_no_torch_does_not_import_it(tmp_path):
    """Settings, names, commands of sweeps, their collection, and usage errors of every kind, a missing checkpoint included."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], input=LINES.strip(), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


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
