"""The network as an ONNX graph, of all timesteps or of one: runs in onnxruntime and wherever else ONNX does, without torch.

What is in the file, B being the dimension ``batch``:

- mode ``unroll``: ``frames`` (T, B, C, H, W), or ``images`` (B, C, H, W), -> ``logits`` (T, B, classes). The values inside the graph
  that are called ``spikes.<layer>`` (T, B, ...) are the spikes.
- mode ``step``: ``frame``, or ``image``, (B, C, H, W) and ``u.<layer>`` (B, ...) -> ``logits`` (B, classes) and ``u_next.<layer>``:
  the membrane potential before its reset, zero before the first step; so the spikes are u_next >= v_th.
"""

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lsgcli import __version__
from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.export import ExportOptions, Format, Output, Runner, Stepwise, metadata, read_metadata
from lsgcli.registry import register

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from torch import Tensor
    from torch.export import ExportedProgram

    from lsgcli.checkpoint import Checkpoint
    from lsgcli.models.base import SpikingNet

OPSET = 20
MOST = 2_000_000_000  # bytes of weights: one file of protobuf holds 2^31 - 1
BATCH = "batch"
SPIKES, BEFORE, AFTER = "spikes.", "u.", "u_next."  # in front of a layer's name


class Graph(NamedTuple):
    """A program of torch, and what its inputs and outputs are to be called."""

    program: "ExportedProgram"
    inputs: list[str]
    outputs: list[str]


class _Session(Runner):
    """Runs the graph in onnxruntime, on the CPU."""

    def __init__(self, model: "onnx.ModelProto", config: dict[str, Any]):
        import onnxruntime
        import torch

        super().__init__(config)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        settings.log_severity_level = 3  # errors; they are raised too
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        self.shapes: dict[str, list[Any]] = {value.name: value.shape for value in self.session.get_inputs()}
        self.outputs = [value.name for value in self.session.get_outputs()]

    @staticmethod
    @abstractmethod
    def graph(network: "SpikingNet", static: bool) -> Graph:
        """The network, followed for this mode, with a batch of any size."""

    def feed(self, values: "dict[str, np.ndarray]") -> "dict[str, np.ndarray]":
        """The outputs by name.

        Raises:
            ConfigError: a shape that the graph does not take.
        """
        for name, value in values.items():
            expected = self.shapes[name]
            fits = len(expected) == value.ndim and all(one in (BATCH, n) for one, n in zip(expected, value.shape, strict=True))
            if not fits:
                raise ConfigError(f"ONNX: found {name} of shape {value.shape}, expected {tuple(expected)}")
        return dict(zip(self.outputs, self.session.run(None, values), strict=True))


class _Unrolled(_Session):
    """All timesteps at once."""

    def __init__(self, model: "onnx.ModelProto", config: dict[str, Any]):
        # The spikes are in the graph as it is; named as outputs, onnxruntime gives them too.
        model.graph.output.extend(value for value in model.graph.value_info if value.name.startswith(SPIKES))
        super().__init__(model, config)

    @staticmethod
    def graph(network: "SpikingNet", static: bool) -> Graph:
        import torch

        from lsgcli.export.graphs import Unrolled

        unrolled, x = Unrolled(network), _frame(network)
        if not static:
            x = x.expand(network.T, *x.shape).clone()
        shapes = {"x": {0 if static else 1: torch.export.Dim(BATCH)}}
        program = torch.export.export(unrolled, (x,), dynamic_shapes=shapes)
        outputs = ["logits", *(SPIKES + name for name in unrolled.names)]
        return Graph(program, ["images" if static else "frames"], outputs)

    def run(self, x: "Tensor") -> Output:
        import torch

        found = {name: torch.from_numpy(value) for name, value in self.feed({next(iter(self.shapes)): x.numpy()}).items()}
        return Output(found.pop("logits"), {name.removeprefix(SPIKES): spikes for name, spikes in found.items()})


class _Stepped(_Session, Stepwise):
    """One timestep after the other."""

    @staticmethod
    def graph(network: "SpikingNet", static: bool) -> Graph:
        import torch

        from lsgcli.export.graphs import Stepping

        stepping, x = Stepping(network), _frame(network)
        rest, batch = stepping.rest(x), torch.export.Dim(BATCH)
        shapes = {"x": {0: batch}, "u": tuple({0: batch} for _ in rest)}
        program = torch.export.export(stepping, (x, *rest), dynamic_shapes=shapes)
        inputs = ["image" if static else "frame", *(BEFORE + name for name in stepping.names)]
        return Graph(program, inputs, ["logits", *(AFTER + name for name in stepping.names)])

    def rest(self, batch: int) -> "tuple[Tensor, ...]":
        import torch

        _, *shapes = self.shapes.values()
        return tuple(torch.zeros(batch, *shape[1:]) for shape in shapes)

    def step(self, frame: "Tensor", state: "tuple[Tensor, ...]") -> "tuple[Tensor, tuple[Tensor, ...]]":
        import torch

        values = (value.numpy() for value in (frame, *state))
        logits, *after = self.feed(dict(zip(self.shapes, values, strict=True))).values()
        return torch.from_numpy(logits), tuple(map(torch.from_numpy, after))


MODES: dict[str, type[_Session]] = {"unroll": _Unrolled, "step": _Stepped}


@register("format", "onnx")
class ONNX(Format):
    """An ONNX graph of opset 20, with its weights inside, for onnxruntime and other servers."""

    suffix = ".onnx"
    extra = "onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")
    options = {"mode": "unroll", "fold_bn": True}
    modes = tuple(MODES)

    def write(self, network: "SpikingNet", content: "Checkpoint", path: Path, options: ExportOptions) -> None:
        import onnx

        size = sum(weight.numel() * weight.element_size() for weight in content.weights.values())
        if size > MOST:
            raise ConfigError(f"ONNX: found {size} bytes of weights, expected at most {MOST}, which one file can hold")
        assert options.mode is not None
        try:
            graph = MODES[options.mode].graph(network, content.config["data"]["static"])
            model = _translated(graph)
        except RuntimeError as error:  # of torch.export, and of the exporter to ONNX
            raise ConfigError(
                f"ONNX: cannot follow {type(network).__name__}: {_reason(error)}",
                hint="The format safetensors holds any network.",
            ) from error
        _clean(model)
        _hide_spikes(model.graph)
        onnx.helper.set_model_props(model, metadata(content))
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString())

    def open(self, path: Path) -> Runner:
        import onnx

        try:
            model = onnx.load_model_from_string(path.read_bytes())
            _check_whole(model, path)
            config = read_metadata({prop.key: prop.value for prop in model.metadata_props}, path)
            return MODES[config["export"]["mode"]](model, config)
        except CheckpointError:
            raise
        except Exception as error:  # of many kinds: protobuf's, json's, onnxruntime's
            raise CheckpointError(
                f"{path}: not a whole ONNX file of lsg: {str(error).splitlines()[0] if str(error) else error!r}",
                hint="Export the checkpoint again.",
            ) from error


def _check_whole(model: "onnx.ModelProto", path: Path) -> None:
    """Make sure that the weights are in the file itself: an ONNX file may name any file of the machine to take them from.

    Raises:
        CheckpointError: they are not.
    """
    for part in _parts(model):
        constants = (attribute.t for node in part.node for attribute in node.attribute)
        for tensor in (*getattr(part, "initializer", ()), *constants):
            if tensor.data_location == tensor.EXTERNAL:
                raise CheckpointError(
                    f"{path}: {tensor.name}: found weights in another file, expected all in this one",
                    hint="Export the checkpoint again.",
                )


def _translated(graph: Graph) -> "onnx.ModelProto":
    import torch

    with warnings.catch_warnings():
        # torch 2.13 warns of itself: it copies a tree of a kind that it has deprecated.
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        exported = torch.onnx.export(
            graph.program,
            dynamo=True,
            opset_version=OPSET,
            input_names=graph.inputs,
            output_names=graph.outputs,
            verbose=False,  # it would print
        )
    assert exported is not None
    return exported.model_proto


def _reason(error: BaseException) -> str:
    """The first line of what is behind an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).split("\n", 1)[0]


def _frame(network: "SpikingNet") -> "Tensor":
    """An example of one step, zeros (2, C, H, W); tracers take a batch of 2 for one of any size, but not one of 1."""
    import torch

    spec = network.spec
    return torch.zeros(2, spec.in_channels, spec.height, spec.input_size)


def _clean(model: "onnx.ModelProto") -> None:
    """Take out what the exporter says of this machine's sources, and give batch and weights their names.

    Every operation and value comes with stack traces, paths of source files and classes in ``metadata_props``, and texts.
    """
    model.producer_name, model.producer_version, model.doc_string = "lsg", __version__, ""
    for part in _parts(model):
        for described in (part, *part.node, *getattr(part, "initializer", ()), *_values(part)):
            described.ClearField("doc_string")
            described.ClearField("metadata_props")
    graph = model.graph
    named = {weight.name: weight.name.removeprefix("network.") for weight in graph.initializer}
    for weight in graph.initializer:
        weight.name = named[weight.name]
    for node in graph.node:
        node.input[:] = [named.get(name, name) for name in node.input]
    del graph.value_info[:]  # shapes inside the graph, which whoever reads it works out again
    for value in (*graph.input, *graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = BATCH


def _parts(model: "onnx.ModelProto") -> "Iterator[Any]":
    """The graph, the graphs in its operations, and functions."""
    waiting: list[Any] = [model.graph, *model.functions]
    while waiting:
        part = waiting.pop()
        yield part
        for node in part.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else attribute.graphs


def _values(part: Any) -> "Iterator[Any]":
    for name in ("input", "output", "value_info"):
        for value in getattr(part, name, ()):
            if not isinstance(value, str):  # functions name theirs, and say nothing else of them
                yield value


def _hide_spikes(graph: "onnx.GraphProto") -> None:
    """Outputs that are spikes become values inside the graph."""
    spikes = [value for value in graph.output if value.name.startswith(SPIKES)]
    kept = [value for value in graph.output if not value.name.startswith(SPIKES)]
    del graph.output[:]
    graph.output.extend(kept)
    graph.value_info.extend(spikes)
