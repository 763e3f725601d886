"""Settings: where they come from, which win, and what is said about wrong ones."""

import dataclasses
import json

import pytest
import torch

from lsgcli import registry
from lsgcli.config import run as config
from lsgcli.config.data import DataConfig
from lsgcli.config.fields import LARGEST_SEED, fields_of
from lsgcli.config.machine import MachineConfig, seconds_of
from lsgcli.config.network import NetworkConfig
from lsgcli.config.neuron import NeuronConfig
from lsgcli.config.resolve import differing, resolve, resolve_rows
from lsgcli.config.run import FIELDS, RULES, RunConfig
from lsgcli.config.training import TrainingConfig
from lsgcli.data import random
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF


def toml(tmp_path, text):
    file = tmp_path / "run.toml"
    file.write_text(text)
    return file


def test_precedence(tmp_path):
    file = toml(tmp_path, "lr = 0.3\nepochs = 7\nbatch_size = 3\n")
    environment = {"LSG_LR": "0.2", "LSG_EPOCHS": "5", "HOME": "/"}
    found = resolve({"lr": 0.1, "dataset": "digits-dvs"}, file=file, environment=environment)
    preset = registry.get("dataset", "digits-dvs").preset
    assert (found.lr, found.epochs, found.batch_size) == (0.1, 5, 3)  # option, environment, file
    assert preset["T"] == found.T
    assert found.momentum == 0.9  # neither preset nor anybody else says
    grouped = resolve({}, file=toml(tmp_path, "[training]\nlr = 0.3\n[neuron]\nmethod = 'none'\n"), environment={})
    assert (grouped.lr, grouped.method) == (0.3, "fixed")  # none is its earlier name
    for text, value in (("yes", True), ("0", False)):  # a variable of a path need have no effect
        assert resolve({}, environment={"LSG_DETERMINISTIC": text, "LSG_DATA_DIR": "/data"}).deterministic is value


def test_all_errors_at_once(tmp_path):
    file = toml(tmp_path, "bach_size = 3\nlr = 'fast'\n")
    with pytest.raises(ConfigError) as error:
        resolve({"T": 0, "method": "lsq"}, file=file, environment={"LSG_EPOCS": "3", "LSG_SEED": "x"})
    text = str(error.value)
    for part in (
        "did you mean batch_size",
        ": lr: found 'fast'",
        "T: found 0",
        "did you mean lsg",
        "LSG_EPOCHS",
        "environment: seed: found 'x'",
    ):
        assert part in text
    assert error.value.exit_code == 2


BAD = {
    "T": (0, 1.5, True),
    "lr": (0.0, float("nan"), "0.1", 1e-300),
    "decay": (1.0, 0),
    "val_fraction": (1.0, -0.1),
    "sensor": ("128", "0x128", "65537x128", "128x65537", "1x" + "9" * 5000),
    "augment": ("flip,spin",),
    "fold": ("0/5", "6/5", "1/1", "1", "1/5/2", "a/b", "-1/5", "1/99999"),
    "seed": (-1, 1 << 63),
    "epochs": (10**9,),
    "data_dir": ("",),
    **{"size": (4097,), "optimizer": ("adam",), "surrogate": ("triangle",), "deterministic": (1,)},
    **{"width_multiplier": (65.0,), "threshold": (1e300,)},
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_values(name, value):
    (line,) = config.check({name: value})
    assert line.startswith(f"{name}: ")
    assert "expected" in line or "did you mean" in line
    assert config.check({"sensor": "65536x65536", "size": 4096, "fold": "5/5", "seed": LARGEST_SEED}) == []


@pytest.mark.parametrize("section", [DataConfig, NetworkConfig, NeuronConfig, TrainingConfig, MachineConfig, RunConfig])
def test_a_section_checks_its_values_and_converts_integers(section):
    name = next(name for name, field in fields_of(section).items() if field.metadata["choices"])
    with pytest.raises(ConfigError, match=f"^{name}: found 'other', expected "):
        section(**{name: "other"})
    assert type(RunConfig(lr=1).lr) is float


def test_the_neuron_of_a_run_has_its_settings():
    neuron = RunConfig(decay=0.3, surrogate="atan", backend="reference").part(NeuronConfig)
    assert neuron == NeuronConfig(decay=0.3, surrogate="atan", backend="reference")
    assert (LIF(neuron).config, LIF(neuron, decay=0.4).config) == (neuron, dataclasses.replace(neuron, decay=0.4))


def test_a_runs_settings_are_taken_back(tmp_path):
    """All of them, whatever the preset says, from the file or its directory; but not where prepared data are written."""
    first = RunConfig(dataset="event-folder", T=7, epochs=2, data_dir="recordings", cache_dir="/scratch", threads=3)
    record = {"settings": first.to_dict(), "argv": ["lsg"], "classes": ["a"], "lr": 9}
    (tmp_path / "config.json").write_text(json.dumps(record))
    for file in (tmp_path / "config.json", tmp_path):
        assert resolve({}, file=file, environment={}) == first.replace(cache_dir=None)
    changed = resolve({"lr": 0.3}, file=tmp_path, environment={"LSG_EPOCHS": "5"})
    assert (changed.lr, changed.epochs, changed.T) == (0.3, 5, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr = = 3", "not valid TOML"),
        ("lr = 0.1\n[training]\nlr = 0.2", "set twice"),
        ('{"settings": 3}', "settings: found int, expected object"),
        ("{}", "found no settings"),
        *((broken, "not valid") for broken in ('{"settings": ', "[" * 100_000, "lr = " + "9" * 9999)),
        ("{" * 100_000, "not valid"),
        ('{"settings": {"learning_rate": 0.1, "T": 0}}', r"T: found 0(.|\n)*unknown setting 'learning_rate'"),
    ],
)
def test_a_file_that_is_no_settings(tmp_path, text, message):
    with pytest.raises(ConfigError, match=f"--config .*{message}"):
        resolve({}, file=toml(tmp_path, text), environment={})
    with pytest.raises(ConfigError, match="No such file"):
        resolve({}, file=tmp_path / "absent.toml", environment={})


@pytest.mark.parametrize("kind", ["dataset", "arch", "neuron"])
def test_presets_are_valid_and_set_only_what_help_says(kind):
    for name in registry.names(kind):
        preset = registry.get(kind, name).preset
        assert config.check(preset) == []
        assert all(FIELDS[key].metadata["preset"] for key in preset), name


@pytest.mark.usefixtures("plugins")
def test_the_preset_of_a_network_yields_to_what_is_given():
    assert resolve({"arch": "preact-resnet18"}, environment={}).norm == "bn"
    assert resolve({"arch": "preact-resnet18", "norm": "tdbn"}, environment={}).norm == "tdbn"


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"arch": "preact-resnet18"}, {"arch"}),
        ({"arch": "preact-resnet18", "norm": "tdbn"}, {"arch", "norm"}),
        ({"neuron": "psn"}, {"neuron"}),
        ({"neuron": "psn", "method": "lsg", "lr": 0.5}, {"neuron", "method", "lr"}),
        ({"method": "fixed", "width": 3.0}, {"method", "width"}),
        ({"dataset": "cifar10", "recipe": "qkformer", "norm": "tdbn"}, {"norm"}),
    ],
)
@pytest.mark.usefixtures("plugins")
def test_what_a_command_must_give(given, names):
    """Also what is the default, but not the preset of the network or neuron."""
    resolved = resolve(given, environment={})
    found = differing(resolved)
    assert {*found} - {"dataset", "recipe"} == names
    again = {name: getattr(resolved, name) for name in [*found, "dataset", "recipe"]}
    assert resolve(again, environment={}) == resolved


def test_every_field_explains_itself():
    for field in dataclasses.fields(RunConfig):
        assert field.metadata["help"].endswith(".")
    assert config.check({f.name: f.default for f in dataclasses.fields(RunConfig)}) == []


WINDOWS = {"dataset": "digits-dvs", "slicing": "window"}
# Setting -> a value, settings under which it has no effect, and settings under which it has one.
EFFECTS = {
    "data_dir": ("d", {"dataset": "digits"}, {"dataset": "cifar10"}),
    "slicing": ("time", {"dataset": "digits"}, {"dataset": "digits-dvs"}),
    "window_us": (7, {"dataset": "digits-dvs", "slicing": "count"}, WINDOWS),
    "window_start": ("middle", {"dataset": "digits-dvs", "slicing": "time"}, WINDOWS),
    "resize": ("bin", {"dataset": "image-folder"}, {"dataset": "event-folder"}),
    "value": ("binary", {"dataset": "cifar10"}, {"dataset": "cifar-dvs"}),
    "normalise": ("frame", {"dataset": "cifar100"}, {"dataset": "n-mnist"}),
    "orientation": ("mirrored", {"dataset": "digits"}, {"dataset": "digits-dvs"}),
    "sensor": ("9x9", {"dataset": "digits-dvs"}, {"dataset": "event-folder"}),
    "skip_bad": (True, {"dataset": "digits-dvs"}, {"dataset": "image-folder"}),
    "split_seed": (3, {"dataset": "digits-dvs", "val_fraction": 0.0}, {"dataset": "n-caltech101", "val_fraction": 0.0}),
    "decay": (0.3, {"init_from": "best.safetensors"}, {}),
    "residual": ("add", {"arch": "vggsnn"}, {"arch": "resnet19"}),
    "depth": (35, {"arch": "sew-resnet18"}, {"arch": "resnet19"}),
    "hidden_norm": (True, {"arch": "sew-resnet18"}, {"arch": "resnet19"}),
    "input_gain": ("1-beta", {"neuron": "psn", "method": "fixed"}, {}),
    "mlp_ratio": (2, {"arch": "resnet19"}, {"arch": "qkformer-dvs"}),
    "dropout_at": ("neurons", {}, {"dropout": 0.5}),
    "width": (1.0, {"method": "matched-width"}, {"method": "trainable-decay"}),
    "init": ("measured", {}, {"norm": "none"}),
    "init_rate": (0.05, {"norm": "none", "init": "ding"}, {"norm": "none", "init": "fluctuation"}),
    "width_from": ("x", {"method": "lsg"}, {"method": "matched-width"}),
    "threshold_learned": (True, {"method": "trsg"}, {"neuron": "clif"}),
    "backend": ("reference", {"method": "asgl"}, {"neuron": "lif"}),
    "reset": ("soft", {"neuron": "glif"}, {}),
    "detach_reset": (True, {"reset": "none"}, {"reset": "soft"}),
    "init_potential": ("measured", {"neuron": "clif"}, {}),
    "carry_m": (False, {"neuron": "clif"}, {"neuron": "ar-lif"}),
    "width_as": ("slope", {"method": "lsg"}, {"method": "asgl"}),
    "smooth": (0.5, {"method": "lsg"}, {"method": "asgl"}),
    "order": (3, {"neuron": "psn", "method": "fixed"}, {"neuron": "sliding-psn", "method": "fixed"}),
    "input_correlation": ("measured", {"method": "lsg"}, {"method": "linear-sigma"}),
    "decay_per": ("channel", {"method": "fixed"}, {"method": "mpd-agl"}),
    "momentum": (0.5, {"optimizer": "adamw"}, {"optimizer": "sgd"}),
    "weight_decay_on": ("all", {"weight_decay": 0.0}, {"weight_decay": 1e-3}),
    "decay_lr": (0.1, {"method": "fixed", "neuron": "ar-lif"}, {"method": "measured-sigma"}),
    "tet_lambda": (0.5, {"loss": "ce"}, {"loss": "tet"}),
    "tet_target": ("one-hot", {"loss": "mse"}, {"loss": "tet"}),
    "label_smoothing": (0.1, {"loss": "mse"}, {"loss": "tet"}),
    "mix_prob": (0.5, {}, {"mixup": 0.5}),
    "mix_until": (2, {}, {"cutmix": 1.0}),
    "lr_floor": (0.1, {"schedule": "step"}, {}),
    "cooldown_epochs": (1, {"schedule": "step"}, {}),
    "step_epochs": (2, {}, {"schedule": "step"}),
    "step_factor": (0.5, {}, {"schedule": "step"}),
    "rate_weight": (2.0, {}, {"rate_target": 0.1}),
    "warmup_start": (0.5, {}, {"warmup_epochs": 1}),
    "split": ("last", {"fold": "1/5", "dataset": "cifar-dvs"}, {"dataset": "cifar-dvs"}),
    "patience": (3, {"val_fraction": 0.0}, {}),
    "test_every_epoch": (True, {"val_fraction": 0.0}, {}),
    "augment": ("flip", {"overfit": 1}, {}),
    "mixup": (0.5, {"overfit": 1}, {}),
    "cutmix": (0.5, {"overfit": 1}, {}),
    "class_weights": ("balanced", {"loss": "mse"}, {"loss": "tet"}),
}


@pytest.mark.parametrize("name", RULES)
def test_a_setting_that_is_given_has_an_effect(name):
    value, without, where = EFFECTS[name]
    with pytest.raises(ConfigError, match=f"^{config.option_name(name)}: found .* which has no effect here, expected "):
        resolve({name: value, **without}, environment={})
    assert getattr(resolve({name: value, **where}, environment={}), name) == value
    assert resolve(without, environment={})  # defaults and presets need have none


def test_rows_share_what_has_an_effect_in_one_of_them():
    none, lsg = resolve_rows({"width": 2.5, "epochs": 3}, [{"method": "fixed"}, {"method": "lsg"}], environment={})
    assert (none.width, lsg.width) == (2.5, FIELDS["width"].default)
    assert (none.epochs, lsg.epochs) == (3, 3)


TIMES = {"3h30m": 12600, "90m": 5400, "20s": 20, "1h": 3600, **dict.fromkeys(("", "h", "0s", "30", "1.5h", "5m3h"), 0)}


@pytest.mark.parametrize("text", TIMES)
def test_times(text):
    assert seconds_of(text) == TIMES[text]
    assert (config.check({"max_time": text}) == []) is (TIMES[text] > 0)


def test_settings_of_a_run_may_have_no_effect(tmp_path):
    saved = resolve({"width": 2.5, "method": "fixed"}, environment={}).to_dict()
    (tmp_path / "config.json").write_text(json.dumps({"settings": saved}))
    again = resolve({}, file=tmp_path / "config.json", environment={})
    assert (again.method, again.width) == ("fixed", 2.5)
    assert resolve({"method": "lsg"}, file=tmp_path / "config.json", environment={}).width == FIELDS["width"].default


def test_the_largest_seed_seeds():
    torch.manual_seed(LARGEST_SEED)
    assert random.uniforms(LARGEST_SEED, 0, random.ids(["a"]), 1, "x").shape == (1, 1)
