"""``lsg list``, ``lsg recipe`` and ``lsg train --print-config``."""

import tomllib

import pytest

from lsgcli import registry
from lsgcli.cli.names import KINDS, RECIPES
from lsgcli.config import recipes, source
from lsgcli.config.resolve import resolve


def test_every_kind_lists_its_names_with_a_line(lsg):
    assert [line.split("\t")[0] for line in lsg("list").stdout.splitlines()] == list(KINDS)
    for kind, (of, _) in KINDS.items():
        rows = [line.split("\t") for line in lsg("list", kind).stdout.splitlines()]
        assert [name for name, _ in rows] == (recipes.names() if kind == RECIPES else registry.names(of))
        assert all(len(text) > 10 for _, text in rows), kind
    wrong = lsg("list", "archx")
    assert (wrong.exit_code, "did you mean archs?" in wrong.stderr) == (2, True)


def test_lines_are_those_of_the_docstrings():
    for kind in ("arch", "surrogate", "augmentation", "loss", "format", "method", "neuron", "backend", "launcher", "logger"):
        for name in registry.names(kind):
            read = source.summary(kind, name)  # from the source text, of those that are not imported
            entry = registry.get(kind, name)
            documented = entry if isinstance(entry, type) else getattr(entry, "apply", entry)  # a record around a function
            assert read == source.summary(kind, name) == documented.__doc__.strip().partition("\n")[0]


@pytest.mark.parametrize("name", recipes.names())
def test_a_printed_recipe_trains_as_the_recipe(lsg, tmp_path, name):
    dataset = "cifar100" if "images" in recipes.load(name) else "cifar-dvs"
    printed = lsg("recipe", name, "--dataset", dataset)
    assert printed.exit_code == 0, printed.stderr
    (file := tmp_path / "my.toml").write_text(printed.stdout)
    assert resolve({}, file=file, environment={}) == resolve({"recipe": name, "dataset": dataset}, environment={})
    lines = [line for line in printed.stdout.splitlines() if line and not line.startswith("#")]
    assert all("  # " in line for line in lines)
    assert f"lr = {resolve({'recipe': name, 'dataset': dataset}, environment={}).lr}  # recipe {name}" in lines
    assert recipes.load(name)["source"] in printed.stdout
    assert lsg("train", "--config", file, "--print-config").exit_code == 0


def test_recipe_names_and_errors(lsg):
    assert lsg("recipe").stdout.split() == recipes.names()
    wrong = lsg("recipe", "tett")
    assert (wrong.exit_code, "did you mean tet?" in wrong.stderr) == (2, True)
    assert lsg("recipe", "tet", "--dataset", "cifar10").exit_code == 2


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
