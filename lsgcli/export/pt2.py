"""The network as a ``torch.export`` program, which requires torch but not lsg."""

import io
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lsgcli.export.base import ExportOptions, Format, metadata, read_metadata
from lsgcli.export.graphs import explained, trace
from lsgcli.export.runners import AtOnce, Runner, Stepwise
from lsgcli.models.base import SpikingNet
from lsgcli.registry import register
from lsgcli.store.checkpoint import Checkpoint

KEYS = ("lsg.export_version", "lsg.config")


@register("format", "pt2")
class PT2(Format):
    """A `torch.export` program, of all timesteps or of one, which requires only torch."""

    suffix = ".pt2"
    magic = rb"PK\x03\x04"
    kind = "a torch.export program"
    hint = "Run it in Python with torch.export.load, or give the checkpoint, or its export as .safetensors, .onnx or .nir."
    is_run = False
    modes = ("unroll", "step")
    options = {"mode": "unroll", "fold_bn": True}

    def write(self, network: SpikingNet, content: Checkpoint, path: Path, options: ExportOptions) -> None:
        assert options.mode is not None
        with explained("PT2", network):
            program = trace(network, options.mode, content.config["data"]["static"])
        for module in program.graph_module.modules():
            for node in getattr(getattr(module, "graph", None), "nodes", ()):
                for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):  # paths of this machine
                    node.meta.pop(key, None)
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files=metadata(content))
        path.write_bytes(buffer.getvalue())

    def open(self, path: Path) -> Runner:
        """The program, for verification by the process that wrote it: ``torch.export.load`` executes code from the file."""
        stored: dict[str, Any] = dict.fromkeys(KEYS, "")
        program = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=stored)
        texts = {key: text.decode() if isinstance(text, bytes) else text for key, text in stored.items() if text}
        config = read_metadata(texts, path)
        if config["export"]["mode"] == "unroll":
            return AtOnce(config, partial(_logits_and_spikes, program.module()))
        assert program.example_inputs is not None
        return Stepwise(config, program.module(), program.example_inputs[0][1:])


def _logits_and_spikes(module: torch.fx.GraphModule, x: Tensor) -> list[Tensor]:
    """Run all timesteps, node by node; the spikes of each layer are the outputs of ``stack``."""
    stacked = []

    class Watching(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            value = super().run_node(n)
            if n.target is torch.ops.aten.stack.default:
                stacked.append(value)
            return value

    return [Watching(module).run(x), *stacked]
