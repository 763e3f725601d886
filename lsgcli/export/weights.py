"""The weights and the configuration of a network: one safetensors file, or a folder for a model hub, with a model card."""

import re
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
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"


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
    from jinja2 import Environment, StrictUndefined

    config = content.config
    accuracy = content.state.get("test_accuracy")
    model = config["model"]
    export = config["export"]
    if model["T"] != export["trained_T"] or (export["quantize"] and model["weight_bits"] is None):
        accuracy = None  # the training had other weights or another T
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    environment.filters["line"] = markdown
    values = {"accuracy": accuracy, "record": record, "described": described}
    parameters = sum(tensor.numel() for tensor in content.weights.values())
    return environment.from_string(CARD_TEXT).render(config, parameters=parameters, **values)


def markdown(text: str) -> str:
    """``text`` escaped for one line of Markdown, so that it contains no markup, links, HTML or control characters."""
    line = re.sub(r"[\n\t]", " ", clean(text))
    line = re.sub(r"[!-/:-@\[-`{-~]", lambda match: ESCAPED.get(match[0], f"\\{match[0]}"), line)
    return re.sub(r"(?i)\b(www)\.", r"\1\.", line)


CARD_TEXT = """---
library_name: lsg
tags:
- spiking-neural-network
- safetensors
---

# {{ arch|line }} on {{ settings.dataset|line }}

| | |
|---|---|
| network | {{ arch|line }}, channels x {{ "%g"|format(model.width_multiplier) }} |
| neurons | {{ model.neuron.neuron|line }}, method {{ settings.method|line }}; decay and threshold of each layer are in `config.json` |
| parameters | {{ "{:,}".format(parameters) }} |
| timesteps | {{ model.T }} |
| weights | {% if export.quantize %}integers of {{ model.weight_bits or 8 }} bits, with a scale per output channel{% else %}floats{% endif %} |
| classes | {{ classes|map("line")|join(", ") }} |
| data set | {{ settings.dataset|line }} |

## Results

{% if accuracy is not none %}
- Accuracy {{ "%.4f"|format(accuracy) }} on the whole test part (training).
{% endif %}
{% if record.samples %}
- Accuracy {{ "%.4f"|format(record.accuracy) }} on {{ record.samples }} samples from the test part (export).
- Compared with the network in torch before export, on the same samples: {{ described(record) }}.
{% elif accuracy is none %}
No results: exported without `--verify`.
{% endif %}

## Use

`lsg eval FOLDER`, or `lsg eval hf:USER/NAME` for a repository of the Hugging Face Hub, evaluates the network. `model.safetensors`
contains the weights; lsg's documentation has a loader of 60 lines that needs only torch and safetensors
(docs/examples/load.py). Normalise images by `data.mean` and `data.std` in `config.json`; its `settings`
are those of the training and of the preparation of frames, and `export` names the readout. Training state (surrogate gradient, optimiser, running statistics if tdBN is folded) is not included.

Written by lsg {{ export.lsg }}.
"""
