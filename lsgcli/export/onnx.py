"""The network as an ONNX graph, of all timesteps or of one, for onnxruntime and other ONNX runtimes.

Contents of the file, where B is the dimension ``batch``:

- mode ``unroll``: ``frames`` (T, B, C, H, W), or ``images`` (B, C, H, W), -> ``logits`` (T, B, classes). The internal values
  ``spikes.<layer>`` (T, B, ...) are the spikes.
- mode ``step``: ``frame``, or ``image``, (B, C, H, W) and ``u.<layer>`` (B, ...) -> ``logits`` (B, classes) and ``u_next.<layer>``:
  the membrane potential before its reset, zero before the first step; the spikes are u_next >= v_th.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lsgcli.data.guard import foreign
from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.export.base import AGAIN, ExportOptions, Format, metadata, read_metadata
from lsgcli.export.graphs import explained, trace
from lsgcli.export.runners import AtOnce, Runner, Stepwise
from lsgcli.models.base import SpikingNet
from lsgcli.models.quantise import integers
from lsgcli.registry import register
from lsgcli.store.checkpoint import Checkpoint
from lsgcli.system.interpreter import __version__
from lsgcli.system.schema import LONG

if TYPE_CHECKING:
    import onnx

OPSET = 20
MOST = 2_000_000_000  # bytes of weights
LARGEST = (1 << 31) - 1  # bytes of a protobuf file
FLOATS = (1, 10, 11, 16)  # float32, float16, float64, bfloat16 in TensorProto.DataType
FIRST = b"\x08"  # byte of a model: the field ir_version
BATCH = "batch"
SPIKES, BEFORE, AFTER = "spikes.", "u.", "u_next."  # prefixes of a layer's name


@register("format", "onnx")
class ONNX(Format):
    """An ONNX graph of opset 20, with its weights inside, for onnxruntime and other servers."""

    suffix = ".onnx"
    magic = rb"\x08"
    extra = "onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")
    options = {"mode": "unroll", "fold_bn": True, "quantize": None}
    modes = ("unroll", "step")

    def write(self, network: SpikingNet, content: Checkpoint, path: Path, options: ExportOptions) -> None:
        import onnx

        size = sum(weight.numel() * weight.element_size() for weight in content.weights.values())
        if size > MOST:
            raise ConfigError(f"ONNX: found {size} bytes of weights, expected at most {MOST}, the limit of one file")
        static, layers = content.config["data"]["static"], content.config["export"]["layers"]
        frame = "image" if static else "frame"
        names = ([f"{frame}s"], ["logits", *(SPIKES + name for name in layers)])
        if options.mode == "step":
            names = ([frame, *(BEFORE + name for name in layers)], ["logits", *(AFTER + name for name in layers)])
        assert options.mode is not None
        with explained(network), warnings.catch_warnings():
            # torch 2.13 warns about its own use of a deprecated class.
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            exported = torch.onnx.export(
                trace(network, options.mode, static),
                dynamo=True,
                opset_version=OPSET,
                input_names=names[0],
                output_names=names[1],
                verbose=False,  # otherwise it prints progress
            )
        assert exported is not None
        model = exported.model_proto
        _clean(model)
        if options.quantize:
            _quantise(model.graph, network.spec.bits)
        if options.mode == "unroll":  # the spikes become internal values
            model.graph.value_info.extend(model.graph.output[1:])
            del model.graph.output[1:]
        onnx.helper.set_model_props(model, metadata(content))
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString())

    def open(self, path: Path) -> Runner:
        import onnx

        with foreign(path, "an ONNX file written by lsg", hint=AGAIN, kind=CheckpointError):
            with open(path, "rb") as stream:
                if stream.read(1) != FIRST or path.stat().st_size > LARGEST:
                    raise ValueError("not a protobuf message of a model")
            model = onnx.load_model_from_string(path.read_bytes())
            for message in _messages(model):
                if isinstance(message, onnx.TensorProto):
                    _check_tensor(message, path)
            config = read_metadata({prop.key: prop.value for prop in model.metadata_props}, path)
            layers = config["export"]["layers"]
            if config["export"]["mode"] == "unroll":
                model.graph.output.extend(model.graph.value_info)  # the spikes, so that onnxruntime returns them
                return AtOnce(config, _Session(model, config, [SPIKES + name for name in layers], path).run)
            session = _Session(model, config, [AFTER + name for name in layers], path)
            _, *states = session.shapes.values()
            rest = [torch.zeros(1, *shape[1:]) for shape in states]
            _check_layers(config, rest, path)
            return Stepwise(config, session.run, rest)


class _Session:
    """The graph in onnxruntime, on the CPU; ``others`` are the names of its outputs after the logits."""

    def __init__(self, model: "onnx.ModelProto", config: Mapping[str, Any], others: list[str], path: Path):
        import onnxruntime

        self.path = path
        found = [output.name for output in model.graph.output]
        if found != ["logits", *others]:
            raise CheckpointError(
                f"{path}: found the outputs {', '.join(found):.{LONG}}, expected logits and one for each of the {len(others)} layers of its configuration",
                AGAIN,
            )
        self.T, self.classes = config["model"]["T"], config["model"]["num_classes"]
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        settings.log_severity_level = 4  # errors are raised; its log would print names of the file as they are
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        self.shapes: dict[str, list[Any]] = {value.name: value.shape for value in self.session.get_inputs()}

    def run(self, *values: Tensor) -> list[Tensor]:
        """The outputs, for inputs in the order of the graph.

        Raises:
            ConfigError: the shape of an input does not match.
            CheckpointError: the graph cannot be run, or an output is of another type or shape than those of a network.
        """
        if len(values) != len(self.shapes):
            raise CheckpointError(f"{self.path}: found {len(self.shapes)} inputs, expected {len(values)}", AGAIN)
        inputs = {}
        for (name, expected), value in zip(self.shapes.items(), values, strict=True):
            if len(expected) != value.dim() or any(
                size not in (BATCH, n) for size, n in zip(expected, value.shape, strict=True)
            ):
                raise ConfigError(f"{self.path}: found {name} of shape {tuple(value.shape)}, expected {tuple(expected)}")
            inputs[name] = value.numpy()
        with foreign(self.path, "a graph that can be run", hint=AGAIN, kind=CheckpointError):
            outputs: list[Any] = self.session.run(None, inputs)
        _, *states = values
        batch = values[0].shape[-4]
        leading = (batch,) if states else (self.T, batch)
        logits, *rest = outputs
        _check_output("logits", logits, (*leading, self.classes), self.path)
        for output, state in zip(rest, states or rest, strict=True):
            _check_output("state" if states else "spikes", output, state.shape if states else leading, self.path)
        return [torch.from_numpy(output) for output in outputs]


def _check_output(name: str, output: Any, expected: Sequence[int], path: Path) -> None:
    """Check that an output is an array of float32 whose shape begins as expected.

    Raises:
        CheckpointError: it is not.
    """
    if not isinstance(output, np.ndarray) or output.dtype != np.float32 or output.shape[: len(expected)] != tuple(expected):
        found = f"{output.dtype} of shape {output.shape}" if isinstance(output, np.ndarray) else type(output).__name__
        raise CheckpointError(f"{path}: {name}: found {found}, expected float32 of shape {tuple(expected)}", AGAIN)


def _check_tensor(tensor: "onnx.TensorProto", path: Path) -> None:
    """Check that the values of a tensor are in the file, and finite.

    Raises:
        CheckpointError: they are in another file, which may be any file of the machine, or NaN or infinite.
    """
    import onnx

    if tensor.data_location == tensor.EXTERNAL:
        found = "weights in another file, expected all in this one"
    elif tensor.data_type in FLOATS and not np.isfinite(onnx.numpy_helper.to_array(tensor)).all():
        found = "NaN or infinity, expected finite numbers"
    else:
        return
    raise CheckpointError(f"{path}: {tensor.name:.{LONG}}: found {found}", AGAIN)


def _check_layers(config: Mapping[str, Any], states: Sequence[Tensor], path: Path) -> None:
    """Check that an export of one timestep describes the layers of its graph, which has a state u (B, C, ...) for each layer.

    Raises:
        CheckpointError: their number differs, or a layer has another number of thresholds.
    """
    stated = [layer["threshold"] for layer in config["export"]["layers"].values()]
    found = [len(v_th) if isinstance(v_th, list) else None for v_th in stated]
    expected = [u.shape[1] for u in states]
    if len(found) != len(expected) or any(n not in (None, channels) for n, channels in zip(found, expected, strict=True)):
        raise CheckpointError(
            f"{path}: configuration: export.layers: found {found} thresholds, expected {expected} or one (None) for each layer",
            AGAIN,
        )


def _clean(model: "onnx.ModelProto") -> None:
    """Remove source information of this machine, and rename the batch dimension and the weights.

    The exporter adds stack traces, source paths and classes to every operation and value, in ``metadata_props`` and ``doc_string``.
    """
    model.producer_name, model.producer_version = "lsg", __version__
    for message in _messages(model):
        for name in {"doc_string", "metadata_props"}.intersection(message.DESCRIPTOR.fields_by_name):
            message.ClearField(name)
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


def _quantise(graph: "onnx.GraphProto", bits: int) -> None:
    """Store the weights of convolutions and linear layers, which are on a grid of ``bits``, as int8, and multiply them by their scales.

    DequantizeLinear would do both, but onnxruntime makes of it and a MatMul a MatMulNBits, which rounds the input to 8 bits.
    """
    from onnx import TensorProto, helper, numpy_helper

    weights = {weight.name: weight for weight in graph.initializer}
    added = []
    for node in graph.node:
        name = node.input[1] if node.op_type in ("Conv", "MatMul") else ""
        if name not in weights:
            continue
        weight = torch.from_numpy(numpy_helper.to_array(weights[name]).copy())
        if node.op_type == "Conv":
            q, scale = integers(weight, bits)
            scale = scale.view(-1, 1, 1, 1)
        else:  # a linear layer, whose weight the exporter transposes to (in, out)
            q, scale = integers(weight.T, bits)
            q = q.T
        graph.initializer.remove(weights.pop(name))
        graph.initializer.append(numpy_helper.from_array(q.numpy(), name))
        graph.initializer.append(numpy_helper.from_array(scale.numpy(), f"{name}_scale"))
        added.append(helper.make_node("Cast", [name], [f"{name}_whole"], to=TensorProto.FLOAT))
        added.append(helper.make_node("Mul", [f"{name}_whole", f"{name}_scale"], [f"{name}_float"]))
        node.input[1] = f"{name}_float"
    nodes = [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message, and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(inner)
