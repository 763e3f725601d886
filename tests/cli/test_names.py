"""``lsg list``, ``lsg recipe`` and ``lsg train --print-config``."""

import json
import re
import shlex
import signal
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest

from lsgcli import registry
from lsgcli.cli import common
from lsgcli.cli.app import COMMANDS
from lsgcli.cli.names import KINDS
from lsgcli.cli.reproduce import FIGURES
from lsgcli.cli.skill import SHAPES
from lsgcli.config import recipes
from lsgcli.config.resolve import resolve
from lsgcli.config.run import FIELDS
from lsgcli.errors import exit_statuses
from lsgcli.sweeps import paper
from lsgcli.sweeps.plan import load
from lsgcli.training.loop import Trainer


def test_every_kind_lists_its_names_with_a_line(lsg):
    assert [line.split("\t")[0] for line in lsg("list").stdout.splitlines()] == list(KINDS)
    assert lsg("recipe").stdout.split() == recipes.names()
    for kind, (of, _) in KINDS.items():
        rows = [line.split("\t") for line in lsg("list", kind).stdout.splitlines()]
        expected = {"recipes": recipes.names(), "settings": [*FIELDS]}.get(kind) or registry.names(of)
        assert [name for name, _ in rows] == expected
        assert all(len(text) > 8 for _, text in rows), kind


def test_lines_are_those_of_the_docstrings():
    for kind in ("arch", "surrogate", "augmentation", "loss", "format", "method", "neuron", "backend", "launcher", "logger"):
        for name in registry.names(kind):
            read = registry.summary(kind, name)  # from the source text, of those that are not imported
            entry = registry.get(kind, name)
            documented = entry if isinstance(entry, type) else getattr(entry, "apply", entry)  # a record around a function
            assert read == registry.summary(kind, name) == documented.__doc__.strip().partition("\n")[0]


@pytest.mark.parametrize("name", recipes.names())
@pytest.mark.usefixtures("plugins")  # whose networks recipes name
def test_a_printed_recipe_trains_as_the_recipe(lsg, tmp_path, name):
    dataset = "cifar100" if "images" in recipes.load(name) else "cifar-dvs"
    printed = lsg("recipe", name, "--dataset", dataset)
    assert printed.exit_code == 0, printed.stderr
    (file := tmp_path / "my.toml").write_text(printed.stdout)
    assert resolve({}, file=file, environment={}) == resolve({"recipe": name, "dataset": dataset}, environment={})
    lines = [line for line in printed.stdout.splitlines() if line and not line.startswith("#")]
    assert all("  # " in line for line in lines)
    lr = resolve({"recipe": name, "dataset": dataset}, environment={}).lr
    assert any(line.startswith(f"lr = {lr}  # ") and line.endswith(f"recipe {name}") for line in lines)
    assert recipes.load(name)["source"] in printed.stdout
    assert lsg("train", "--config", file, "--print-config").exit_code == 0


def test_the_recipe_of_the_paper_says_what_the_paper_states(lsg):
    """Each value is marked as stated or as assumed."""
    printed = lsg("recipe", "lsg", "--dataset", "cifar10", status=0).stdout
    lines = dict(re.findall(r"^(\w+) = .*  # (.+)$", printed, re.MULTILINE))
    assert {lines.pop("recipe"), lines.pop("dataset")} == {"this file", "chosen"}
    marks = {name: text.partition(",")[0] for name, text in lines.items()}
    assert set(marks.values()) == {"stated", "assumed"}
    stated = ("method", "decay", "threshold", "surrogate", "norm", "arch", "T", "reset")
    assumed = ("lr", "epochs", "optimizer", "augment", "decay_lr", "weight_decay", "precision")
    assert {marks[name] for name in stated} == {"stated"}
    assert {marks[name] for name in assumed} == {"assumed"}
    of_recordings = lsg("recipe", "lsg", "--dataset", "cifar-dvs", status=0).stdout
    assert 'loss = "tet"  # stated, recipe lsg' in of_recordings.splitlines()
    assert '"flip,roll"  # assumed, recipe lsg' in of_recordings


def test_the_schema_of_settings(lsg):
    """What --print-config prints is valid under it, tables and earlier values too; what lsg refuses is not."""
    schema = json.loads(lsg("list", "settings", "--json-schema").stdout)
    jsonschema.Draft7Validator.check_schema(schema)
    valid = jsonschema.Draft7Validator(schema).is_valid
    for words in ([], ["--neuron", "psn"], ["--dataset", "cifar10", "--recipe", "qkformer"], ["--dataset", "tonic:POKERDVS"]):
        printed = lsg("train", "--print-config", *words).stdout
        assert printed.startswith("#:schema ./lsg.schema.json\n")
        assert valid(tomllib.loads(printed)), words
    assert valid(
        {"training": {"lr": 0.1, "epochs": 2}, "method": "none", "memory": 2, "augment": "flip,roll", "convolution": "auto"}
    )
    for wrong in ({"lr": "much"}, {"epohcs": 2}, {"method": "lgs"}, {"T": 0}, {"neuron": {"decay": 1.0}}, {"deterministic": 1}):
        assert not valid(wrong), wrong


def test_the_skill_gives_options_of_diagnose_before_the_script(lsg):
    """What follows the script is for the script."""
    commands = re.findall(r"lsg diagnose ([^#\n`]*)", lsg("skill").stdout)
    given = [words.split() for words in commands if ".py" in words]
    assert ["--json", "train.py"] in given
    assert all(words[-1].endswith(".py") for words in given)


def test_fields_that_the_skill_names_are_there(lsg, trained, images):
    text = lsg("skill").stdout
    checkpoint = trained / "best.safetensors"
    for name, words in {
        "eval": [checkpoint, "--data-dir", images],
        "show": [checkpoint],
        "runs": [trained],
        "compare": [trained],
        "inspect-gradients": [checkpoint, "--data-dir", images, "--batches", "1"],
    }.items():
        record = json.loads(lsg(name, *words, "--json").stdout)
        for field in re.findall("`([a-z_]+)`", SHAPES[name]):
            assert f'"{field}"' in json.dumps(record), (name, field)
        assert f"`lsg {name} --json`" in text
    assert all(f"- `lsg {name}`: " in text for name in COMMANDS)
    assert all(f"- {status}: " in text for status in exit_statuses())


def test_reproduce(lsg, tiny, images, monkeypatch):
    """Met, and met again without training; not met by another value, or on other data, with status 9."""
    settings = {"dataset": "image-folder", "data_dir": str(images), "arch": "vggsnn", "T": 2, "size": 16, "epochs": 1}
    one = {"settings": settings | {"width_multiplier": 0.03125, "batch_size": 8}, "measure": "accuracy", "expected": 0.5}
    figure = {"title": "a figure", "source": "a page", "runs": [one | {"tolerance": 1.0, "data": "unknown"}]}
    monkeypatch.setitem(FIGURES, "figure", figure)
    train = Trainer.train

    def interrupted(trainer):
        signal.raise_signal(signal.SIGINT)
        return train(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", interrupted)
        lsg("reproduce", "figure", status=75)
    other = lsg("reproduce", "figure", "--json", status=9)
    figure["runs"][0]["data"] = json.loads(other.stdout)["runs"][0]["data_found"]
    met = lsg("reproduce", "figure", status=0)
    assert (met.stdout.count(": met"), "epoch" in met.stderr) == (1, False)
    figure["runs"][0]["tolerance"] = -1.0
    assert ": not met\n" in lsg("reproduce", "figure", status=9).stdout
    assert "figure\ta figure (a page)" in lsg("reproduce").stdout


DAMAGED_RESULTS = (
    ("accuracy", {"accuracy": None}, "accuracy: found null"),
    ("accuracy", {"accuracy": None, "diverged": "the loss is NaN"}, "the loss is NaN"),
    ("accuracy", {}, "accuracy"),
    ("accuracy", {"accuracy": "high"}, "accuracy"),
    ("best_accuracy", {"accuracy": None}, "best_accuracy: found no value"),
    ("best_accuracy", {"accuracy": 0.5}, "best_accuracy: found no value"),
    ("best_accuracy", {"accuracy": 0.5, "best_accuracy": None}, "best_accuracy"),
)


@pytest.mark.parametrize(("measure", "result", "named"), DAMAGED_RESULTS)
def test_reproduce_names_a_result_without_its_value(lsg, monkeypatch, measure, result, named):
    run = {"settings": {}, "measure": measure, "expected": 0.5, "tolerance": 1.0, "data": "unknown"}
    monkeypatch.setitem(FIGURES, "figure", {"title": "a figure", "source": "a page", "runs": [run]})
    folder = Path("runs/reproduce/figure-1")
    folder.mkdir(parents=True)
    config = {"schema": "lsg.run/1", "settings": resolve({}, environment={}).to_dict()}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "result.json").write_text(json.dumps(result))
    refused = lsg("reproduce", "figure", status=4).stderr
    assert refused.startswith("error: runs/reproduce/figure-1/result.json: ")
    assert (named in refused, len(refused.splitlines())) == (True, 2)


OF_THE_PAPER = [*(f"figure-{number}" for number in (1, 3, 4, 5, 6, 7)), *(f"table-{number}" for number in (1, 2, 3))]


def test_each_figure_and_table_of_the_paper_has_a_command(lsg, tmp_path):
    """Those that train do so with settings beside which the paper's values stand."""
    listed = dict(line.split("\t")[:2] for line in lsg("reproduce").stdout.splitlines())
    assert listed.keys() >= set(OF_THE_PAPER)
    for name in OF_THE_PAPER:
        figure = FIGURES[name]
        assert "IJCAI 2023" in listed[name]
        assert figure.keys() & {"commands", "draws"}
        for command in figure.get("commands", ()):
            words = command.format(out="out").split()
            plots = words.index("--plot") if "--plot" in words else len(words)
            lsg(*words[:plots], "--print-commands", "-q", status=0)
            plan = load(tmp_path / words[words.index("--out") + 1])
            assert len(plan.seeds) == 5  # as in the paper
            for _, config in plan.rows:
                result, differences = paper.reported(config, plan.table)
                assert not differences, (name, result)


def test_a_figure_is_reproduced_by_its_commands(lsg, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr("lsgcli.report.drawing.SUFFIXES", (".svg",))
    settings = shlex.join(tiny)
    command = f"ablate --grid method=fixed,lsg --seeds 0 {settings} --out {{out}}/runs --plot {{out}}/charts --force"
    monkeypatch.setitem(FIGURES, "figure", {"title": "a figure", "source": "a page", "commands": [command]})
    for _ in range(2):  # the second one trains nothing
        done = lsg("reproduce", "figure", "--out", "a folder/made", "--json", status=0)
        assert [row["method"] for row in json.loads(done.stdout)["rows"]] == ["fixed", "lsg"]
        assert f"lsg ablate --grid method=fixed,lsg --seeds 0 {settings} --out 'a folder/made/runs'" in done.stderr
    assert "epoch 1/2" not in done.stderr.replace("  ", " ")
    assert (tmp_path / "a folder" / "made" / "charts" / "beta-lsg.svg").is_file()
    assert "lsg ablate --grid method=fixed,lsg" in lsg("reproduce").stdout


def test_the_next_command_is_named_on_a_terminal(lsg, monkeypatch, caplog):
    monkeypatch.setattr(common.log, "propagate", True)
    common.log.setLevel("INFO")
    common.say_next("lsg", "eval", "a run")
    assert caplog.text == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    common.say_next("lsg", "eval", "a run")
    assert "next: lsg eval 'a run'" in caplog.text


def test_print_config(lsg, tmp_path, monkeypatch):
    monkeypatch.setenv("LSG_SEED", "7")
    printed = lsg("train", "--print-config", "--lr", "0.3", "--method", "none").stdout
    for line in (
        "lr = 0.3  # option",
        "seed = 7  # environment",
        'loss = "tet"  # preset of digits-dvs',
        'norm = "tdbn"  # default',
    ):
        assert line in printed.splitlines()
    assert tomllib.loads(printed)["method"] == "fixed"  # none is its earlier name
    assert 'method = "fixed"  # option' in printed
    assert not list(tmp_path.iterdir())
