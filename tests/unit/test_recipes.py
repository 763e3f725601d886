"""Recipes: valid values, their place among the sources of settings, and the source of each value."""

import pytest

from lsgcli import config, recipes, run
from lsgcli.config import MAY_CHANGE, PATHS, MachineConfig
from lsgcli.errors import ConfigError
from lsgcli.resolve import resolve, sources
from lsgcli.settings import fields_of

TABLES = {"settings", "images", "recordings", "cifar10", "cifar100", "cifar-dvs", "dvs-gesture"}


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_is_valid(name):
    recipe = recipes.load(name)
    assert recipe["source"]
    assert recipe["assumed"]
    tables = {key: value for key, value in recipe.items() if isinstance(value, dict)}
    assert tables.keys() <= TABLES
    for values in tables.values():
        assert config.check(values) == []
        assert not values.keys() & {*PATHS, *MAY_CHANGE, *fields_of(MachineConfig), "dataset", "seed", "recipe"}
    for dataset in ("cifar10", "cifar100") if "images" in recipe else ("cifar-dvs", "dvs-gesture"):
        resolved = resolve({"recipe": name, "dataset": dataset}, environment={})
        assert config.without_effect(recipes.settings(name, dataset), [resolved]) == []
        run.check(resolved)  # the network accepts the size


def test_precedence(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("weight_decay = 0.5\nepochs = 20\nbatch_size = 3\n")
    options, environment = {"recipe": "tet", "dataset": "cifar-dvs", "lr": 0.3}, {"LSG_EPOCHS": "9"}
    found = resolve(options, file=file, environment=environment)
    assert (found.lr, found.epochs, found.batch_size, found.weight_decay) == (0.3, 9, 3, 0.5)
    assert (found.optimizer, found.tet_lambda, found.split, found.momentum) == ("adamw", 1e-3, "last", 0.9)
    told = sources(found, options, file, environment)
    expected = {
        "recipe": "option",
        "lr": "option",
        "epochs": "environment",
        "batch_size": str(file),
        "optimizer": "recipe tet",
        "split": "preset of cifar-dvs",
        "momentum": "default",
        "data_dir": "default",
    }
    assert {name: told[name] for name in expected} == expected
    assert resolve({}, file=file, environment={"LSG_RECIPE": "tet"}).optimizer == "adamw"


def test_tables_for_data_sets():
    decays = {
        name: resolve({"recipe": "clif", "dataset": name}, environment={}).weight_decay for name in ("cifar10", "cifar100")
    }
    assert decays == {"cifar10": 5e-5, "cifar100": 5e-4}
    with pytest.raises(ConfigError, match="recipe tet: found --dataset digits, which contains images, expected recordings"):
        resolve({"recipe": "tet", "dataset": "digits"}, environment={})
    with pytest.raises(ConfigError, match="recipe: found 'tett', expected asgl or "):
        resolve({"recipe": "tett"}, environment={})


def test_a_run_longer_than_its_warm_up_and_cool_down_is_expected():
    short = resolve({"recipe": "qkformer", "epochs": 20}, environment={})
    with pytest.raises(ConfigError, match="epochs: found 20, expected more than the 20 of warm-up and cool-down"):
        run.check(short)
