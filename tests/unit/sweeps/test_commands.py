"""What --print-commands prints must make the very cells that `lsg ablate` makes."""

import shlex

import pytest
from typer.testing import CliRunner

from lsgcli import registry
from lsgcli.cli.app import app
from lsgcli.config.resolve import resolve
from lsgcli.config.run import FIELDS, base_type
from lsgcli.runs import run
from lsgcli.sweeps.cells import command
from lsgcli.sweeps.plan import Cell
from tests.unit.sweeps.helpers import plan, write_run


@pytest.fixture
def understood(monkeypatch, tmp_path):
    """How `lsg` understands the words of a command: (settings, directory, whether it goes on)."""
    monkeypatch.chdir(tmp_path)
    seen = []

    def train(config, path, emit, stop, *, existing, group, test, page):
        seen.append((config, path, existing == "resume"))
        return {"checkpoint": "x", "run": "x"}

    monkeypatch.setattr(run, "train", train)

    def understand(words):
        assert words[0] == "lsg"
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, result.output
        return seen[-1]

    return understand


FOLDER = {"data_dir": '/mnt/my data/it\'s "here"', "sensor": "64x48", "skip_bad": True}
GIVEN = (
    {},
    {"dataset": "event-folder", **FOLDER, "method": "fixed", "width": 2.5},
    {"lr": 1e-05, "T": 7, "augment": "rotate", "deterministic": True, "val_fraction": 0.0},
    {"decay": 0.1 + 0.2, "clip_grad": 1.0, "width_multiplier": 1 / 3, "workers": 0, "threads": 1, "backend": "reference"},
    {"dataset": "cifar10", "cache_dir": "$HOME/~a*b", "method": "fixed"},
    {"recipe": "clif", "lr": 0.02, "mixup": 0.5, "split": "first"},
    # Values of the recipe that have no effect, given the others.
    {"recipe": "asgl", "method": "fixed"},
    {"recipe": "qkformer", "neuron": "clif"},
    {"recipe": "qkformer", "schedule": "step"},
    {"recipe": "clif", "loss": "ce"},
    {"recipe": "ds-atgo", "dataset": "cifar10", "arch": "resnet19", "method": "lsg"},
    {"recipe": "qkformer", "dataset": "cifar10", "loss": "mse"},
)


@pytest.mark.parametrize("given", GIVEN, ids=str)
def test_commands_are_understood_as_the_cells(understood, given):
    config = resolve({"dataset": "digits-dvs", **given}, environment={})
    (cell,) = plan("some where", {}).cells()[:1]
    words = command(Cell(0, config, cell.path), environment={})
    assert shlex.split(shlex.join(words)) == words
    assert understood(words) == (config, cell.path, False)


def test_commands_say_only_what_the_preset_does_not():
    config = resolve({"dataset": "digits-dvs", "method": "fixed", "epochs": 3, "seed": 4}, environment={})
    words = command(Cell(0, config, plan("abl", {}).root / "x"), environment={})
    assert shlex.join(words) == "lsg train --dataset digits-dvs --method fixed --epochs 3 --seed 4 --out abl/x"


def test_commands_outdo_the_environment():
    config = resolve({"dataset": "digits-dvs", "epochs": 12}, environment={})
    cell = Cell(0, config, plan("abl", {}).cells()[0].path)
    own = {"LSG_EPOCHS": "1", "LSG_DETERMINISTIC": "yes"}
    unset = ["env", "-u", "LSG_EPOCHS", "-u", "LSG_DETERMINISTIC"]
    assert command(cell, environment=own) == [*unset, *command(cell, environment={})]


def test_every_setting_can_be_said():
    """A setting without an option, or of a type that has none, would be lost on the way."""
    unsaid = resolve({"dataset": "digits-dvs"}, environment={})
    other = {int: 3, float: 0.625, str: "other"}
    special = {
        "augment": "flip",
        "init_rate": 0.2,
        "sensor": "9x9",
        "depth": 21,
        "weight_bits": 4,
        "fold": "2/5",
        "max_time": "20s",
    }
    for name, field in FIELDS.items():
        kind = field.metadata["kind"]
        named = registry.names(kind) if kind else field.metadata["choices"]
        default = getattr(unsaid, name)
        different = not default if base_type(name) is bool else other[base_type(name)]
        value = special.get(name) or next((one for one in named if one != default), different)
        words = command(Cell(0, unsaid.replace(**{name: value}), plan("abl", {}).cells()[0].path), environment={})
        assert any(word.removeprefix("--no-").lstrip("-").replace("-", "_") == name for word in words), name


def test_the_command_of_a_stopped_run_continues_it(understood, tmp_path):
    (cell,) = plan(tmp_path / "abl", {"method": "fixed"}, seeds=(2,)).cells()
    words = command(cell, ("-q",), environment={})
    write_run(cell)
    assert command(cell, ("-q",), environment={}) == words
    assert understood(words) == (cell.config, cell.path, True)
