"""The network as a ``torch.export`` program, which requires torch but not lsg."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.export import ExportOptions, Format, Output, Runner, Stepwise, metadata, read_metadata
from lsgcli.export.pt2_archive import inert
from lsgcli.registry import register

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

    from lsgcli.checkpoint import Checkpoint
    from lsgcli.models.base import SpikingNet

KEYS = ("lsg.export_version", "lsg.config")


@register("format", "pt2")
class PT2(Format):
    """A `torch.export` program, of all timesteps or of one, which requires only torch."""

    suffix = ".pt2"
    modes = ("unroll", "step")
    options = {"mode": "unroll", "fold_bn": True}

    def write(self, network: "SpikingNet", content: "Checkpoint", path: Path, options: ExportOptions) -> None:
        import torch

        from lsgcli.export.graphs import Logits, Stepping

        static = content.config["data"]["static"]
        spec, batch = network.spec, torch.export.Dim("batch")
        # The example is stored in the file: zeros, with a batch of 2, which tracers do not specialise on.
        frame = torch.zeros(2, spec.in_channels, spec.height, spec.input_size)
        graph: Stepping | Logits
        if options.mode == "step":
            graph = Stepping(network)
            rest = graph.rest(frame)
            example, shapes = (frame, *rest), {"x": {0: batch}, "u": tuple({0: batch} for _ in rest)}
        else:
            graph = Logits(network)
            example, shapes = (
                (frame if static else frame.expand(network.T, *frame.shape).clone(),),
                {"x": {0 if static else 1: batch}},
            )
        # Contiguous weights: torch.export does not store channels-last weights completely.
        graph.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        try:
            program = torch.export.export(graph, example, dynamic_shapes=shapes)
        except RuntimeError as error:
            raise ConfigError(
                f"PT2: torch.export cannot trace {type(network).__name__}: {str(error).splitlines()[0]}",
                hint="Use --format safetensors, which supports any network.",
            ) from error
        _strip(program)
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files=metadata(content))
        path.write_bytes(buffer.getvalue())

    def open(self, path: Path) -> Runner:
        import torch

        found: dict[str, Any] = dict.fromkeys(KEYS, "")
        try:
            program = torch.export.load(inert(path), extra_files=found)
        except CheckpointError:
            raise
        except Exception as error:  # of various undocumented types
            raise CheckpointError(
                f"{path}: found an invalid file, expected a torch.export program: {str(error).splitlines()[0] if str(error) else error!r}",
                hint="Export the checkpoint again.",
            ) from error
        texts = {key: text.decode() if isinstance(text, bytes) else text for key, text in found.items() if text}
        config = read_metadata(texts, path)
        return _Steps(program, config) if config["export"]["mode"] == "step" else _Whole(program, config)


class _Whole(Runner):
    """Runs all timesteps at once, node by node, and records the spikes of each layer, which are the outputs of ``stack``."""

    def __init__(self, program: "ExportedProgram", config: dict[str, Any]):
        super().__init__(config)
        self.module = program.module()

    def run(self, x: "Tensor") -> Output:
        import torch

        stacked = []

        class Watching(torch.fx.Interpreter):
            def run_node(self, n: "Node") -> Any:
                value = super().run_node(n)
                if n.target is torch.ops.aten.stack.default:
                    stacked.append(value)
                return value

        logits = Watching(self.module).run(x)
        return Output(logits, dict(zip(self.config["export"]["layers"], stacked, strict=True)))


class _Steps(Stepwise):
    """Runs one timestep at a time, starting from zeros shaped like the example."""

    def __init__(self, program: "ExportedProgram", config: dict[str, Any]):
        super().__init__(config)
        self.module = program.module()
        assert program.example_inputs is not None
        self.example = program.example_inputs[0][1:]

    def rest(self, batch: int) -> "tuple[Tensor, ...]":
        return tuple(zeros.new_zeros(batch, *zeros.shape[1:]) for zeros in self.example)

    def step(self, frame: "Tensor", state: "tuple[Tensor, ...]") -> "tuple[Tensor, tuple[Tensor, ...]]":
        logits, *after = self.module(frame, *state)
        return logits, tuple(after)


def _strip(program: "ExportedProgram") -> None:
    """Remove the source locations of operations on this machine."""
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
                node.meta.pop(key, None)
