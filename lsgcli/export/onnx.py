"""The network as an ONNX graph, of all timesteps or of one, for onnxruntime and other ONNX runtimes.

Contents of the file, where B is the dimension ``batch``:

- mode ``unroll``: ``frames`` (T, B, C, H, W), or ``images`` (B, C, H, W), -> ``logits`` (T, B, classes). The internal values
  ``spikes.<layer>`` (T, B, ...) are the spikes.
- mode ``step``: ``frame``, or ``image``, (B, C, H, W) and ``u.<layer>`` (B, ...) -> ``logits`` (B, classes) and ``u_next.<layer>``:
  the membrane potential before its reset, zero before the first step; the spikes are u_next >= v_th.
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
MOST = 2_000_000_000  # bytes of weights: a protobuf file is limited to 2^31 - 1
BATCH = "batch"
SPIKES, BEFORE, AFTER = "spikes.", "u.", "u_next."  # prefixes of a layer's name


class Graph(NamedTuple):
    """An exported program, and the names of its inputs and outputs."""

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
        settings.log_severity_level = 3  # errors only, which are also raised
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        self.shapes: dict[str, list[Any]] = {value.name: value.shape for value in self.session.get_inputs()}
        self.outputs = [value.name for value in self.session.get_outputs()]

    @staticmethod
    @abstractmethod
    def graph(network: "SpikingNet", static: bool) -> Graph:
        """The network traced for this mode, with a dynamic batch size."""

    def feed(self, values: "dict[str, np.ndarray]") -> "dict[str, np.ndarray]":
        """The outputs by name.

        Raises:
            ConfigError: the shape of an input does not match.
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
        # Declare the internal spikes as outputs, so that onnxruntime returns them.
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
    """One timestep per call."""

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
            raise ConfigError(f"ONNX: found {size} bytes of weights, expected at most {MOST}, the limit of one file")
        assert options.mode is not None
        try:
            graph = MODES[options.mode].graph(network, content.config["data"]["static"])
            model = _translated(graph)
        except RuntimeError as error:  # from torch.export or the ONNX exporter
            raise ConfigError(
                f"ONNX: cannot trace {type(network).__name__}: {_reason(error)}",
                hint="Use --format safetensors, which supports any network.",
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
        except Exception as error:  # of various types, from protobuf, json and onnxruntime
            raise CheckpointError(
                f"{path}: found an invalid ONNX file, expected one written by lsg: {str(error).splitlines()[0] if str(error) else error!r}",
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
        # torch 2.13 warns about its own use of a deprecated class.
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        exported = torch.onnx.export(
            graph.program,
            dynamo=True,
            opset_version=OPSET,
            input_names=graph.inputs,
            output_names=graph.outputs,
            verbose=False,  # otherwise it prints progress
        )
    assert exported is not None
    return exported.model_proto


def _reason(error: BaseException) -> str:
    """The first line of the root cause of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).split("\n", 1)[0]


def _frame(network: "SpikingNet") -> "Tensor":
    """An example input of one step, zeros (2, C, H, W); tracers specialise on a batch size of 1, but not of 2."""
    import torch

    spec = network.spec
    return torch.zeros(2, spec.in_channels, spec.height, spec.input_size)


def _clean(model: "onnx.ModelProto") -> None:
    """Remove information about this machine's sources, and rename batch dimension and weights.

    The exporter adds stack traces, source paths and classes to every operation and value, in ``metadata_props`` and ``doc_string``.
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
    del graph.value_info[:]  # internal shapes, which runtimes infer
    for value in (*graph.input, *graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = BATCH


def _parts(model: "onnx.ModelProto") -> "Iterator[Any]":
    """The graph, subgraphs of its operations, and functions."""
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
            if not isinstance(value, str):  # functions list names only
                yield value


def _hide_spikes(graph: "onnx.GraphProto") -> None:
    """Turn outputs that are spikes into internal values."""
    spikes = [value for value in graph.output if value.name.startswith(SPIKES)]
    kept = [value for value in graph.output if not value.name.startswith(SPIKES)]
    del graph.output[:]
    graph.output.extend(kept)
    graph.value_info.extend(spikes)
