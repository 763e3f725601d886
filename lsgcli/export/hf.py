"""The network as a folder for a model hub: weights, configuration, and a model card with measured results."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsgcli import registry
from lsgcli.config import FIELDS, MAY_CHANGE, option_words
from lsgcli.errors import CheckpointError
from lsgcli.export import ExportOptions, Format, Runner
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.checkpoint import Checkpoint
    from lsgcli.models.base import SpikingNet

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


@register("format", "hf")
class HF(Format):
    """A folder as model hubs expect it: `model.safetensors`, `config.json`, and the model card `README.md`."""

    folder = True

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return (path / WEIGHTS).is_file() and (path / CONFIG).is_file()

    def write(self, network: "SpikingNet", content: "Checkpoint", path: Path, options: ExportOptions) -> None:
        from lsgcli import checkpoint

        checkpoint.write(path / WEIGHTS, checkpoint.Checkpoint(content.weights, content.config))
        (path / CONFIG).write_text(json.dumps(content.config, indent=2) + "\n", encoding="utf-8")

    def open(self, path: Path) -> Runner:
        from lsgcli import checkpoint
        from lsgcli.export.network import NetworkRunner

        network, config = checkpoint.load(path / WEIGHTS)
        try:
            stored = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path / CONFIG}: cannot be read: {error}", hint="Copy the folder again.") from error
        if stored != config:
            raise CheckpointError(
                f"{path / CONFIG}: found a configuration that differs from that in {WEIGHTS}", hint="Copy the folder again."
            )
        return NetworkRunner(network, config)

    def conclude(self, path: Path, content: "Checkpoint", record: Mapping[str, Any]) -> None:
        (path / CARD).write_text(card(content, record), encoding="utf-8")


def card(content: "Checkpoint", record: Mapping[str, Any]) -> str:
    """The model card.

    Args:
        content: configuration, and the state of the training.
        record: of the verification; with 0 samples if there was none.
    """
    config, model, settings = content.config, content.config["model"], content.config["settings"]
    residual = f", residual {model['residual']}" if any(".shortcut." in name for name in content.weights) else ""
    rows = {
        "network": f"{config['arch']}, channels x {model['width_multiplier']:g}{residual}",
        "neurons": f"LIF of method {settings['method']}; decay and threshold of each layer are in `{CONFIG}`",
        "parameters": f"{sum(tensor.numel() for tensor in content.weights.values()):,}",
        "input": f"{model['in_channels']} x {model['input_height'] or model['input_size']} x {model['input_size']}, "
        + ("images, each presented at every timestep" if config["data"]["static"] else "frames of events"),
        "timesteps": model["T"],
        "readout": config["export"]["readout"],
        "tdBN": "folded into the convolutions" if config["folded"] else "as trained",
        "classes": ", ".join(config["classes"]),
        "data set": settings["dataset"],
    }
    return CARD_TEXT.format(
        title=f"{config['arch']} on {settings['dataset']}",
        rows="\n".join(f"| {key} | {value} |" for key, value in rows.items()),
        results="\n".join(f"- {line}" for line in _results(content, record)) or "No results: exported without `--verify`.",
        commands="\n".join([*_train_commands(content), _export_command(config, record)]),
        lsg=config["export"]["lsg"],
    )


def train_command(settings: Mapping[str, Any], T: int) -> str:
    """The `lsg train` command for a run's settings, without those equal to the data set's preset or the defaults."""
    preset = registry.get("dataset", settings["dataset"]).preset
    words = ["lsg train -q --dataset", settings["dataset"]]
    for name, value in {**settings, "T": T}.items():
        if value is None or name == "dataset" or name in MAY_CHANGE or value == preset.get(name, FIELDS[name].default):
            continue
        words += option_words(name, value)
    return " ".join(words)


def _train_commands(content: "Checkpoint") -> Iterator[str]:
    """The training, and each time that it was extended."""
    settings, planned = content.config["settings"], [epochs for _, epochs in content.state.get("extended", [])]
    first, *later = [*planned, settings["epochs"]]
    yield f"ckpt=$({train_command({**settings, 'epochs': first}, content.config['export']['trained_T'])})"
    for epochs in later:
        yield f'ckpt=$(lsg train -q --resume "$(dirname "$ckpt")" --epochs {epochs})'


def _export_command(config: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    words = ['lsg export "$ckpt" --format hf -o', Path(record["path"]).name]
    words += ["--no-fold-bn"] if not config["export"]["fold_bn"] else []
    words += ["-T", str(config["model"]["T"])] if config["model"]["T"] != config["export"]["trained_T"] else []
    words += ["--verify", str(record["samples"])] if record["samples"] else []
    return " ".join(words)


def _results(content: "Checkpoint", record: Mapping[str, Any]) -> Iterator[str]:
    """Results for these weights, in the order in which they were measured."""
    from lsgcli.export.verify import described

    state = content.state
    same = content.config["model"]["T"] == content.config["export"]["trained_T"]
    if state and same and state.get("test_accuracy") is not None:
        yield f"Accuracy {state['test_accuracy']:.4f} on the whole test part (training)."
    if state and same and state["epoch"] == state["best_epoch"] + 1:
        part = {"val": "validation part, which selected this epoch", "test": "test part, which selected this epoch"}
        yield f"Accuracy {state['best_accuracy']:.4f} on the {part[state['best_chosen_on']]} (training)."
    if record["samples"]:
        yield f"Accuracy {record['accuracy']:.4f} on {record['samples']} samples from the test part (export)."
        yield f"Compared with the network in torch before export, on the same samples: {described(record)}."


CARD_TEXT = """---
library_name: lsg
tags:
- spiking-neural-network
- safetensors
---

# {title}

| | |
|---|---|
{rows}

## Results

{results}

Commands that produced these results and this folder (add `--data-dir` if necessary):

```sh
{commands}
```

## Use

`lsg eval FOLDER` evaluates the network. `model.safetensors` contains plain weights; lsg's documentation has a loader of 60 lines that
needs only torch and safetensors (docs/export/safetensors.md). Normalise images by `data.mean` and `data.std` in `config.json`; `settings`
describes the preparation of frames. Training state (surrogate gradient, optimiser, running statistics if tdBN is folded) is not included.

Written by lsg {lsg}.
"""
