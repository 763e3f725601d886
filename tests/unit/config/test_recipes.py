"""Recipes: valid values, their place among the sources of settings, and the source of each value."""

import json

import pytest

from lsgcli.config import recipes
from lsgcli.config import run as config
from lsgcli.config.fields import fields_of
from lsgcli.config.machine import MachineConfig
from lsgcli.config.resolve import resolve, sources
from lsgcli.config.run import MAY_CHANGE, PATHS
from lsgcli.runs import checks

pytestmark = pytest.mark.usefixtures("plugins")  # whose networks recipes name
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
        checks.check(resolved)  # the network accepts the size


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


@pytest.mark.parametrize(
    ("given", "reset"),
    [
        *(({"neuron": name}, {"detach_reset": False, "reset": "hard"}) for name in ("clif", "klif", "glif")),
        ({"schedule": "step", "epochs": 30}, {"cooldown_epochs": 0, "lr_floor": 0.0}),
        ({"augment": "none", "mixup": 0.0}, {"mix_until": None}),
    ],
)
def test_values_that_an_option_leaves_without_effect_are_dropped(given, reset):
    """A neuron that does not take them would refuse them, and no option could take them back."""
    small = {"threshold": 0.5, "size": 32, "dataset": "digits"}
    found = resolve({"recipe": "qkformer", **small, **given}, environment={})
    checks.check(found)
    assert {name: getattr(found, name) for name in reset} == reset
    assert found.weight_decay == 0.06
    told = sources(found, {"recipe": "qkformer", **small, **given}, None, {})
    assert {told[name] for name in reset if getattr(found, name) != getattr(resolve({}, environment={}), name)} == set()


def test_a_run_of_an_earlier_version_keeps_its_settings(tmp_path):
    """Those that it did not have are at their defaults, although the recipe gives them now."""
    old = resolve({"recipe": "clif", "dataset": "cifar-dvs", "loss": "mse", "norm": "tdbn"}, environment={}).to_dict()
    del old["dropout_at"], old["tet_lambda"], old["tet_target"]
    (tmp_path / "config.json").write_text(json.dumps({"settings": old}))
    again = resolve({}, file=tmp_path, environment={})
    assert (again.loss, again.norm, again.dropout, again.dropout_at) == ("mse", "tdbn", 0.3, "classifier")


def test_tables_for_data_sets():
    decays = {
        name: resolve({"recipe": "clif", "dataset": name}, environment={}).weight_decay for name in ("cifar10", "cifar100")
    }
    assert decays == {"cifar10": 5e-5, "cifar100": 5e-4}


CROP, EVENTS = "crop,flip,autoaugment", {"T": 10, "size": 48, "augment": "flip,roll"}
SGD, ADAMW = {"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "adamw"}
QK = {**ADAMW, "weight_decay": 0.06, "weight_decay_on": "weights", "label_smoothing": 0.1, "mixup": 0.5, "cooldown_epochs": 10}
QK |= {"input_gain": "1-beta", "detach_reset": True, "decay": 0.5, "threshold": 1.0, "ema": 0.0, "clip_grad": 0.0, "norm": "bn"}
QK_DVS = {**QK, "batch_size": 16, "warmup_epochs": 10, "mix_prob": 0.5, "mix_until": 75, "augment": "flip,snnaugment", "T": 16}
CLIF_DVS = {"loss": "tet", "tet_lambda": 0.05, "augment": "none", "dropout_at": "neurons", "norm": "bn-step", "neuron": "clif"}
SEW = {"arch": "resnet19", "residual": "sew", "hidden_norm": True}
AR_LIF = {"arch": "preact-resnet18", "neuron": "ar-lif", "surrogate": "rectangular", "width": 1.0, "weight_decay_on": "all"}
MIXED = {"mixup": 0.2, "cutmix": 1.0, "mix_prob": 1.0}
PSN = {"method": "fixed", "surrogate": "atan", "width": 1.0, "threshold": 1.0, "norm": "bn"}

LSG = {
    "method": "lsg",
    "neuron": "lif",
    "decay": 0.2,
    "threshold": 0.5,
    "surrogate": "rectangular",
    "norm": "tdbn",
    "reset": "hard",
}


def published(epochs, batch_size, lr, weight_decay, *groups, **others):
    settings = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "schedule": "cosine"}
    return {**settings, **{name: value for group in groups for name, value in group.items()}, **others}


PUBLISHED = {
    ("mpd-agl", "cifar10"): published(150, 100, 0.1, 1e-4, SGD, SEW, augment=CROP, weight_decay_on="all", threshold=0.5, decay=0.2),
    ("mpd-agl", "cifar-dvs"): published(150, 100, 0.1, 5e-4, SGD, EVENTS, weight_decay_on="all", loss="ce"),
    ("ds-atgo", "cifar10"): published(400, 100, 0.1, 1e-4, SGD, SEW, augment=CROP, label_smoothing=0.1, T=2),
    ("tet", "cifar-dvs"): published(150, 128, 1e-3, 0.0, ADAMW, EVENTS, loss="tet", tet_lambda=1e-3, decay=0.5, width=1.0),
    ("asgl", "cifar100"): published(300, 128, 0.1, 5e-4, SGD, augment=f"{CROP},cutout", width=4 * 5.0, width_as="slope", smooth=0.2, decay_lr=3e-4),
    ("asgl", "cifar-dvs"): published(100, 32, 0.1, 1e-3, SGD, loss="tet", tet_lambda=1e-3, smooth=0.1, augment="flip,roll"),
    ("clif", "cifar10"): published(200, 128, 0.1, 5e-5, SGD, loss="tet", tet_lambda=0.05, augment="crop,flip,cutout-area", dropout=0.0, norm="bn-step"),
    ("clif", "cifar100"): published(200, 128, 0.1, 5e-4, SGD, loss="tet", tet_lambda=0.05, decay=0.5, threshold=1.0),
    ("clif", "cifar-dvs"): published(300, 128, 0.05, 5e-4, SGD, CLIF_DVS, tet_target="one-hot", T=10, size=48, dropout=0.3),
    ("clif", "dvs-gesture"): published(300, 16, 0.1, 5e-4, SGD, CLIF_DVS, tet_target="one", T=20, size=128, dropout=0.4),
    ("qkformer", "cifar10"): published(410, 64, 1e-3, 0.06, QK, warmup_epochs=20, mix_until=200, augment="flip,randaugment,erase"),
    ("qkformer", "cifar-dvs"): published(106, 16, 5e-3, 0.06, QK_DVS, split="lexicographic", slicing="count", size=128),
    ("ar-lif", "cifar10"): published(400, 128, 0.1, 5e-5, SGD, AR_LIF, MIXED, augment="flip,randaugment,erase", loss="tet", tet_lambda=0.05, tet_target="one"),
    ("ar-lif", "cifar100"): published(400, 128, 0.05, 5e-4, SGD, AR_LIF, MIXED, decay=0.5, norm="bn-step", carry_m=True),
    ("ar-lif", "cifar-dvs"): published(100, 16, 0.1, 5e-4, SGD, neuron="ar-lif", surrogate="triangular", carry_m=False, decay=0.2, dropout=0.25, split="first"),
    ("psn", "cifar-dvs"): published(200, 32, 0.1, 5e-4, SGD, PSN, neuron="sliding-psn", order=2, loss="tet", tet_lambda=1e-3, size=48, split="first"),
    ("qkformer", "dvs-gesture"): published(202, 16, 1e-3, 0.06, QK_DVS, mlp_ratio=4),
    ("maxformer", "cifar10"): published(410, 128, 1.5e-3, 0.06, QK, warmup_epochs=20, mixup=0.5, cutmix=0.5, mix_prob=1.0, mix_until=200),
    ("maxformer", "cifar100"): published(410, 64, 1.5e-3, 0.06, QK, mixup=0.75, cutmix=0.5, mix_until=250),
    ("maxformer", "cifar-dvs"): published(106, 16, 5e-3, 0.06, QK_DVS, cutmix=0.1, split="lexicographic", slicing="count"),
    ("lsg", "cifar10"): published(300, 128, 0.1, 5e-4, SGD, LSG, arch="resnet19", residual="add", T=2, loss="ce", augment="crop,flip", decay_lr=3e-4),
    ("lsg", "cifar100"): published(300, 128, 0.1, 5e-4, SGD, LSG, arch="resnet19", T=2, weight_decay_on="weights"),
    ("lsg", "cifar-dvs"): published(100, 32, 0.1, 1e-3, SGD, LSG, EVENTS, arch="vggsnn", loss="tet", tet_lambda=1e-3, decay_lr=1e-3),
    ("maxformer", "dvs-gesture"): published(160, 16, 5e-3, 0.06, QK_DVS, cutmix=0.1, mlp_ratio=None),
}  # fmt: skip


@pytest.mark.parametrize(("name", "dataset"), PUBLISHED)
def test_values_are_those_of_the_publication(name, dataset):
    expected = PUBLISHED[name, dataset]
    found = resolve({"recipe": name, "dataset": dataset}, environment={})
    assert {key: getattr(found, key) for key in expected} == expected
    assert found.width_multiplier == 1  # the preset of a small data set has another
    floor = {"qkformer": 2e-5 if dataset == "dvs-gesture" else 1e-5, "maxformer": 1e-5}
    assert found.lr * found.lr_floor == pytest.approx(floor.get(name, 0))
    if name in floor:
        start = 8e-5 if (name, dataset) == ("maxformer", "cifar10") else 1e-5
        assert found.lr * found.warmup_start == pytest.approx(start)


def test_a_residual_network_has_the_settings_of_maxformer():
    given = {"recipe": "maxformer", "dataset": "cifar10"}
    found = resolve({**given, "arch": "max-resnet18"}, environment={})
    checks.check(found)
    assert found == resolve(given, environment={}).replace(arch="max-resnet18")
