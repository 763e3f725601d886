"""Stored checkpoints of every method, neuron, normalisation, surrogate and network: each version must read them and compute the same.

They were written by `python -m tests.golden.test_checkpoints`, which adds missing ones and never replaces a file. Everything is compared in
float64, where another machine's rounding does not flip a spike.
"""

import json
from pathlib import Path

import pytest
import torch

from lsgcli import registry
from lsgcli.config.resolve import resolve
from lsgcli.config.run import RunConfig, from_checkpoint, from_dict
from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.neurons.layer import drawing
from lsgcli.store import checkpoint
from tests.unit.models.helpers import seasoned

FOLDER = Path(__file__).with_name("checkpoints")
METHODS = (
    "adaptive", "asgl", "deeptage", "ds-atgo", "ds-atgo-paper", "isometric", "linear-sigma", "lsg", "matched-width", "measured-sigma", "mpd-agl", "none", "trainable-decay", "trsg",
)  # fmt: skip
NEURONS = ("ar-lif", "clif", "glif", "klif", "masked-psn", "psn", "psu-lif", "sliding-psn")
NETWORKS = (
    "resnet19-add", "resnet19-sew", "mlp", "resnet19-none", "sew-resnet18", "ms-resnet18", "sew-dvs-wide", "qkformer", "qkformer-dvs",
    "max-resnet18", "maxformer", "maxformer-dvs",
    "preact-resnet18", "sequential-cnn",
)  # fmt: skip
NARROW = {
    "qkformer": {"width_multiplier": 1 / 12},
    "sew-resnet18": {"width_multiplier": 1 / 32},
    "ms-resnet18": {"width_multiplier": 1 / 32},
    "max-resnet18": {"width_multiplier": 1 / 64},
    "maxformer": {"width_multiplier": 1 / 16},
    "maxformer-dvs": {"width_multiplier": 1 / 16},
    "preact-resnet18": {"width_multiplier": 1 / 32},
}
OPTIONS = {
    "reset-soft": {"reset": "soft"},
    "reset-none": {"reset": "none"},
    "reset-detached": {"detach_reset": True},
    "threshold-learned": {"threshold_learned": True},
    "input-gain": {"input_gain": "1-beta"},
    "initial-potential": {"init_potential": "measured"},
    "decay-per-channel": {"decay_per": "channel"},
    "weights-of-4-bits": {"weight_bits": 4},
    "threshold-1": {"threshold": 1.0, "decay": 0.5},
}
# name -> network, and its arguments
CASES = {
    **{f"method-{name}": ("vggsnn", {"method": name}) for name in METHODS},
    **{f"neuron-{name}": ("vggsnn", {"neuron": name}) for name in NEURONS},
    **{f"norm-{name}": ("vggsnn", {"norm": name, "method": "lsg"}) for name in ("bn", "bn-step", "mpbn", "none", "tebn")},
    **{
        f"surrogate-{name}": ("vggsnn", {"surrogate": name, "method": "lsg"})
        for name in ("a2sg", "atan", "exponential", "sigmoid", "tanh", "triangular")
    },
    **{f"network-{name}": (name, {"method": "lsg", **NARROW.get(name, {})}) for name in NETWORKS},
    **{f"option-{name}": ("vggsnn", {"method": "lsg", **options}) for name, options in OPTIONS.items()},
}


def computed(net: torch.nn.Module, T: int) -> dict[str, object]:
    """Logits in evaluation, the gradient norm of each parameter in training, and the width of each layer, for a fixed input."""
    spec, net = net.spec, net.double().eval()
    shape = (T, 2, spec.in_channels, spec.height, spec.input_size)
    x = (torch.arange(torch.Size(shape).numel(), dtype=torch.float64) * 1.7).sin().view(shape) * 1.5
    x = x[0] if net.images_only else x
    with torch.no_grad():
        logits = net(x)
    net.train()
    with drawing(net, torch.arange(1, 3)):
        trained = net(x)
        (trained * torch.linspace(-1, 1, trained.numel(), dtype=torch.float64).view(trained.shape)).sum().backward()
    gradients = {name: p.grad.norm().item() for name, p in net.named_parameters() if p.grad is not None}
    widths = {layer.name: layer.lif.alpha.mean().item() for layer in net.spiking_layers()}
    return {"logits": logits.flatten().tolist(), "gradients": gradients, "widths": widths}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("plugins")
def test_a_stored_checkpoint_computes_what_it_did(name):
    net, config = checkpoint.load(FOLDER / f"{name}.safetensors")
    found, stored = computed(net, config["settings"]["T"]), config["golden"]
    assert found["logits"] == pytest.approx(stored["logits"], rel=1e-6, abs=1e-9)
    assert found["gradients"] == pytest.approx(stored["gradients"], rel=1e-6, abs=1e-9)
    assert found["widths"] == pytest.approx(stored["widths"], rel=1e-6)


@pytest.mark.parametrize("leak", [False, True])
def test_a_checkpoint_that_states_whether_neurons_leak_into_the_next_sample(leak, tmp_path):
    """An earlier version had this setting; networks without it are the same today."""
    content = checkpoint.read(FOLDER / "network-qkformer.safetensors")
    content.config["model"]["leak"] = content.config["settings"]["leak"] = leak
    checkpoint.save(tmp_path / "c.safetensors", content)
    if leak:
        with pytest.raises(CheckpointError, match="leak"):
            checkpoint.load(tmp_path / "c.safetensors")
    else:
        config = checkpoint.load(tmp_path / "c.safetensors")[1]
        assert from_checkpoint("c", config, {}).arch == content.config["settings"]["arch"]


def test_settings_that_went_and_had_no_effect(tmp_path):
    settings = {**RunConfig().to_dict(), "leak": False, "stable_gradient": "product"}
    assert from_dict(settings) == RunConfig()
    (tmp_path / "config.json").write_text(json.dumps({"settings": settings}))
    assert resolve({}, file=tmp_path, environment={}) == RunConfig()
    for changes in ({"leak": True}, {"loss": "stable-spike"}):
        with pytest.raises(ConfigError, match=next(iter(changes))):
            from_dict(settings | changes)


def test_the_network_of_a_nir_file(tmp_path):
    """An earlier version read those of other programs; its checkpoints are refused by the name of the network."""
    content = checkpoint.read(FOLDER / "network-mlp.safetensors")
    content.config["arch"] = "nir"
    content.config["model"]["graph"] = "{}"
    checkpoint.save(tmp_path / "c.safetensors", content)
    with pytest.raises(CheckpointError, match="graph"):
        checkpoint.load(tmp_path / "c.safetensors")


def test_the_network_of_a_plugin_that_is_not_installed():
    with pytest.raises(CheckpointError, match=r"docs/plugins"):
        checkpoint.load(FOLDER / "network-sequential-cnn.safetensors")


def test_every_entry_has_one():
    """``defaults`` are those of the cases that do not give one."""
    defaults = {"method": "fixed", "neuron": "lif", "norm": "tdbn", "surrogate": "rectangular"}
    for kind, default in defaults.items():
        assert {arguments.get(kind, default) for _, arguments in CASES.values()} >= {*registry.names(kind)}


def test_there_are_no_others():
    assert {file.stem for file in FOLDER.glob("*.safetensors")} == set(CASES)


def write(name: str) -> None:
    which, arguments = CASES[name]
    net = seasoned(which, batch=2, dtype=torch.float32, **arguments)
    data = {
        "channels": net.spec.in_channels,
        "static": False,
        "mean": None,
        "std": None,
        "samples": "none",
        "sensor": [128, 128],
    }
    config = {
        **checkpoint.describe(net),
        "classes": [f"class {label}" for label in range(net.spec.num_classes)],
        "settings": RunConfig(dataset="event-folder", T=net.T).to_dict(),
        "data": {**data, "versions": {"reader aedat2": 1}, "medians": {"events": 60, "duration_us": 100_000}},
    }
    path = FOLDER / f"{name}.safetensors"
    checkpoint.save(path, checkpoint.Checkpoint(net.state_dict(), config))
    content = checkpoint.read(path)
    golden = computed(checkpoint.load(path)[0], net.T)
    checkpoint.save(path, checkpoint.Checkpoint(content.weights, {**config, "golden": golden}))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for case in CASES:
        if not (FOLDER / f"{case}.safetensors").exists():
            write(case)
