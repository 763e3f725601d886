"""The weights and the configuration of a network: one safetensors file, or a folder for a model hub, with a model card."""

import re
from collections.abc import Iterator
from pathlib import Path

from lsgcli.errors import CheckpointError, clean
from lsgcli.export.base import ExportOptions, Format
from lsgcli.export.runners import NetworkRunner, Runner
from lsgcli.export.verify import described
from lsgcli.models.base import SpikingNet
from lsgcli.models.quantise import packed
from lsgcli.registry import register
from lsgcli.store import checkpoint
from lsgcli.store.checkpoint import Checkpoint
from lsgcli.system import schema
from lsgcli.system.files import json_text
from lsgcli.system.schema import Record

PLAIN = ",.-+=/()"  # characters that are not markup within a line of text
ESCAPED = {"<": "&lt;", ">": "&gt;", "&": "&amp;", **{char: char for char in PLAIN}}
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


@register("format", "safetensors")
class SafeTensors(Format):
    """A checkpoint without training state, accepted by every command that takes a checkpoint."""

    suffix = ".safetensors"
    magic = rb".{8}\s*\{"
    is_run = False
    options = {"fold_bn": True, "quantize": None}

    def write(self, network: SpikingNet, content: Checkpoint, path: Path, options: ExportOptions) -> None:
        weights = packed(network, network.spec.bits) if options.quantize else content.weights
        checkpoint.write(path, Checkpoint(weights, content.config))

    def open(self, path: Path) -> Runner:
        return NetworkRunner(*checkpoint.load(path))


@register("format", "hf")
class HF(Format):
    """A folder as model hubs expect it: `model.safetensors`, `config.json`, and the model card `README.md`."""

    folder = True
    options = SafeTensors.options

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return (path / WEIGHTS).is_file() and (path / CONFIG).is_file()

    def write(self, network: SpikingNet, content: Checkpoint, path: Path, options: ExportOptions) -> None:
        SafeTensors().write(network, content, path / WEIGHTS, options)
        (path / CONFIG).write_text(json_text(content.config, indent=2) + "\n", encoding="utf-8")

    def open(self, path: Path) -> Runner:
        runner = SafeTensors().open(path / WEIGHTS)
        stored = schema.read(path / CONFIG, Record, CheckpointError)
        if stored != runner.config:
            raise CheckpointError(
                f"{path / CONFIG}: found a configuration that differs from that in {WEIGHTS}", "Copy the folder again."
            )
        return runner

    def conclude(self, path: Path, content: Checkpoint, record: Record) -> None:
        (path / CARD).write_text(_card(content, record), encoding="utf-8", errors="backslashreplace")


def _card(content: Checkpoint, record: Record) -> str:
    """The model card; ``record`` is the record of the verification, with 0 samples without one."""
    config, model, settings = content.config, content.config["model"], content.config["settings"]
    export = config["export"]
    weights = (
        f"integers of {model['weight_bits'] or 8} bits, with a scale per output channel" if export["quantize"] else "floats"
    )
    return CARD_TEXT.format(
        arch=markdown(config["arch"]),
        dataset=markdown(settings["dataset"]),
        network=markdown(f"{config['arch']}, channels x {model['width_multiplier']:g}"),
        neurons=markdown(f"{model['neuron']['neuron']}, method {settings['method']}"),
        parameters=sum(tensor.numel() for tensor in content.weights.values()),
        T=model["T"],
        weights=weights,
        classes=", ".join(map(markdown, config["classes"])),
        results="\n".join(f"- {line}" for line in _results(content, record)) or "No results: exported without `--verify`.",
        lsg=export["lsg"],
    )


def markdown(text: str) -> str:
    """``text`` escaped for one line of Markdown, so that it contains no markup, links, HTML or control characters."""
    line = re.sub(r"[\n\t]", " ", clean(text))
    line = re.sub(r"[!-/:-@\[-`{-~]", lambda match: ESCAPED.get(match[0], f"\\{match[0]}"), line)
    return re.sub(r"(?i)\b(www)\.", r"\1\.", line)


def _results(content: Checkpoint, record: Record) -> Iterator[str]:
    """Results of these weights, in the order of measurement. Results of the training are omitted if it had other weights or another T."""
    model, export = content.config["model"], content.config["export"]
    same = model["T"] == export["trained_T"] and (model["weight_bits"] is not None or not export["quantize"])
    accuracy = content.state.get("test_accuracy")
    if same and accuracy is not None:
        yield f"Accuracy {accuracy:.4f} on the whole test part (training)."
    if record["samples"]:
        yield f"Accuracy {record['accuracy']:.4f} on {record['samples']} samples from the test part (export)."
        yield f"Compared with the network in torch before export, on the same samples: {described(record)}."


CARD_TEXT = """---
library_name: lsg
tags:
- spiking-neural-network
- safetensors
---

# {arch} on {dataset}

| | |
|---|---|
| network | {network} |
| neurons | {neurons}; decay and threshold of each layer are in `config.json` |
| parameters | {parameters:,} |
| timesteps | {T} |
| weights | {weights} |
| classes | {classes} |
| data set | {dataset} |

## Results

{results}

## Use

`lsg eval FOLDER`, or `lsg eval hf:USER/NAME` for a repository of the Hugging Face Hub, evaluates the network. `model.safetensors`
contains the weights; lsg's documentation has a loader of 60 lines that needs only torch and safetensors
(docs/examples/load.py). Normalise images by `data.mean` and `data.std` in `config.json`; its `settings`
are those of the training and of the preparation of frames, and `export` names the readout. Training state (surrogate gradient, optimiser, running statistics if tdBN is folded) is not included.

Written by lsg {lsg}.
"""
