"""Former names of settings are valid wherever settings are given or stored."""

import json
from pathlib import Path

import pytest

import lsgcli
from lsgcli.config.resolve import assignments, resolve
from lsgcli.config.run import RunConfig, from_checkpoint, from_dict
from lsgcli.errors import ConfigError
from lsgcli.store import checkpoint
from lsgcli.sweeps.arguments import plan
from lsgcli.sweeps.plan import PLAN, load

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
    "an object": lambda given, _: RunConfig(**given),
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
