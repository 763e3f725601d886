"""Sections of settings, each alone enough for what it describes; and former names of settings, which are valid everywhere."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lsgcli
from lsgcli import models, registry
from lsgcli.config.data import DataConfig
from lsgcli.config.network import NetworkConfig
from lsgcli.config.neuron import NeuronConfig
from lsgcli.config.resolve import assignments, resolve
from lsgcli.config.run import RunConfig, from_checkpoint, from_dict
from lsgcli.config.training import TrainingConfig
from lsgcli.data.batches import Mixing, batches
from lsgcli.data.prepare import prepare
from lsgcli.errors import ConfigError
from lsgcli.models.base import NetworkSpec, Sizes
from lsgcli.neurons import LIF
from lsgcli.store import checkpoint
from lsgcli.sweeps.arguments import plan
from lsgcli.sweeps.plan import PLAN, load
from lsgcli.training.initialise import new_model
from lsgcli.training.optim import Optimizers, schedule

DATA = {"dataset": "digits", "size": 16, "augment": "crop"}
TRAINING = {"loss": "tet", "tet_lambda": 0.05, "optimizer": "adamw", "lr": 5e-3, "batch_size": 64, "epochs": 2}


class Own(nn.Module):
    """A network of a library user."""

    def __init__(self, neuron: NeuronConfig):
        super().__init__()
        self.synapse, self.neurons, self.classifier = nn.Linear(256, 64), LIF(neuron), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, 16, 16) -> (4, B, 10)."""
        return self.classifier(self.neurons(self.synapse(x.flatten(1)).expand(4, -1, -1)))


def losses_of(data: DataConfig, training: TrainingConfig, neuron: NeuronConfig) -> list[float]:
    torch.manual_seed(0)
    bundle, network, found = prepare(data), Own(neuron), []
    loss, optimizers = registry.get("loss", training.loss), Optimizers(network, training)
    options = {"augment": data.augment, "mixing": Mixing(data, len(bundle.classes)), "shuffle": True}
    stream = batches(bundle, "train", training.batch_size, **options)
    for batch in itertools.islice(stream, 4):
        value = loss(network(batch.x), batch.y, training)
        value.backward()
        optimizers.step(schedule(batch.index, len(stream), training))
        optimizers.zero_grad()
        found.append(value.item())
    return found


def test_sections_train_as_the_settings_of_a_run_do():
    """The bits of the losses are those with a RunConfig, which takes the place of each section."""
    run = RunConfig(**DATA, **TRAINING, method="trainable-decay", surrogate="triangular")
    parts = losses_of(
        DataConfig(**DATA), TrainingConfig(**TRAINING), NeuronConfig(method="trainable-decay", surrogate="triangular")
    )
    assert parts == losses_of(run, run, run.part(NeuronConfig))
    assert parts[-1] < parts[0]


def test_recordings_need_the_section_of_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = DataConfig(T=2, size=16, slicing="window", window_us=1000, value="log1p", orientation="mirrored")
    dataset = registry.get("dataset", "digits-dvs")(config).scan(("test",))
    whole = registry.get("dataset", "digits-dvs")(RunConfig(**vars(config))).scan(("test",))
    sample = dataset.samples[3]
    np.testing.assert_array_equal(dataset.load(sample), whole.load(sample))
    assert (dataset.dtype, dataset.shape, dataset.preparation()) == (whole.dtype, whole.shape, whole.preparation())


@pytest.mark.parametrize("arch", ["vggsnn", "resnet19", "qkformer"])
def test_a_network_of_sections_is_that_of_a_run_and_that_of_arguments(arch):
    chosen = {"width_multiplier": 0.125, "norm": "bn", "dropout": 0.2, "weight_bits": 8}
    neuron, sizes = {"method": "fixed", "reset": "soft"}, {"T": 3, "num_classes": 4, "in_channels": 2, "input_size": 32}
    spec = NetworkSpec.of(NetworkConfig(arch=arch, **chosen), NeuronConfig(**neuron), Sizes(**sizes))
    run = RunConfig(arch=arch, **chosen, **neuron, T=3, size=32, init_from="not-read.safetensors")
    networks = [new_model(run, 4, 2)]
    for build in (lambda: models.create(spec), lambda: models.build(arch, NeuronConfig(**neuron), **chosen, **sizes)):
        torch.manual_seed(run.seed)
        networks.append(build())
    first, *others = networks
    for other in others:
        assert other.spec == first.spec
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    assert not {"init_from", "width_from"} & {field.name for field in dataclasses.fields(NetworkSpec)}


FORMER, NAME, VALUE = "convolution", "synapses", "spikes"
STORED = Path(__file__).parents[2] / "golden" / "checkpoints" / "norm-none.safetensors"  # written under the former name


def from_file(folder, text):
    (file := folder / "settings").write_text(text)
    return resolve({}, file=file, environment={})


ENTRIES = {
    "arguments": lambda given, _: resolve(given, environment={}),
    "environment": lambda given, _: resolve({}, environment={f"LSG_{name.upper()}": value for name, value in given.items()}),
    "TOML": lambda given, folder: from_file(folder, "".join(f"[{k}]\n{k} = '{v}'\n" for k, v in given.items())),
    "config.json": lambda given, folder: from_file(folder, json.dumps({"settings": given})),
    "a copy": lambda given, _: RunConfig().replace(**given),
    "stored": lambda given, _: from_dict(given),
    "changes of a checkpoint": lambda given, _: from_checkpoint(STORED, checkpoint.read_config(STORED), given),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_former_name_is_valid_and_both_are_an_error(entry, tmp_path):
    for name in (FORMER, NAME):
        assert ENTRIES[entry]({name: VALUE}, tmp_path).synapses == VALUE
    for names in ((FORMER, NAME), (NAME, FORMER)):
        with pytest.raises(ConfigError, match=NAME):
            ENTRIES[entry](dict.fromkeys(names, VALUE), tmp_path)


def test_another_source_may_use_the_other_name(tmp_path):
    (file := tmp_path / "run.toml").write_text(f"{FORMER} = 'auto'")
    assert resolve({NAME: VALUE}, file=file, environment={f"LSG_{FORMER.upper()}": "dense"}).synapses == VALUE
    assert resolve({}, file=file, environment={f"LSG_{NAME.upper()}": VALUE}).synapses == VALUE


def test_stored_settings_have_the_name_of_today():
    settings = checkpoint.read_config(STORED)["settings"]
    assert NAME in settings
    assert FORMER not in settings


def test_an_ablation_finds_the_directories_of_former_names(tmp_path, monkeypatch):
    """Its default folder, those of its rows, and its plan; rows that have none are named after the settings of today."""
    monkeypatch.chdir(tmp_path)
    given = {
        "dataset": "digits-dvs",
        "arch": "mlp",
        "T": 2,
        "size": 16,
        "width_multiplier": 0.125,
        "epochs": 1,
        "batch_size": 64,
    }
    planned = {name: plan(given, None, [f"{name}=dense,spikes", "rate-target=0.1"], "0", None, None) for name in (FORMER, NAME)}
    assert planned[FORMER] == planned[NAME]
    root = planned[NAME].root
    assert root.name == "ablate-digits-dvs-mlp-44e88ee9"  # as before the setting had another name
    (root / "convolution=spikes-rate_target=0.1").mkdir(parents=True)
    names = [cell.path.parent.name for cell in planned[NAME].cells()]
    assert names == ["synapses=dense-rate_target=0.1", "convolution=spikes-rate_target=0.1"]
    planned[NAME].save()
    (root / PLAN).write_text((root / PLAN).read_text().replace(NAME, FORMER))
    assert load(root).rows == planned[NAME].rows
    assert "twice" in assignments("--grid", ["synapses=dense", "convolution=auto"], "", {})[1][0]


def test_the_context_of_the_former_name_is_the_same():
    assert lsgcli.convolutions is lsgcli.synapses
