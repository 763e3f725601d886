"""The network as an ONNX graph, of all timesteps or of one, for onnxruntime and other ONNX runtimes.

Contents of the file, where B is the dimension ``batch``:

- mode ``unroll``: ``frames`` (T, B, C, H, W), or ``images`` (B, C, H, W), -> ``logits`` (T, B, classes). The internal values
  ``spikes.<layer>`` (T, B, ...) are the spikes.
- mode ``step``: ``frame``, or ``image``, (B, C, H, W) and ``u.<layer>`` (B, ...) -> ``logits`` (B, classes) and ``u_next.<layer>``:
  the membrane potential before its reset, zero before the first step; the spikes are u_next >= v_th.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lsgcli.data.guard import Damaged, foreign
from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.export.base import AGAIN, ExportOptions, Format, metadata, read_metadata
from lsgcli.export.graphs import explained, trace
from lsgcli.export.runners import AtOnce, Runner, Stepwise
from lsgcli.models.base import SpikingNet
from lsgcli.models.quantise import integers
from lsgcli.registry import register
from lsgcli.store.checkpoint import Checkpoint
from lsgcli.system.interpreter import __version__
from lsgcli.system.schema import LONG, Record

if TYPE_CHECKING:
    import onnx

OPSET = 20
MOST = 2_000_000_000  # bytes of weights
LARGEST = (1 << 31) - 1  # bytes of a protobuf file
FLOATS = (1, 10, 11, 16)  # float32, float16, float64, bfloat16 in TensorProto.DataType
FIRST = b"\x08"  # byte of a model: the field ir_version
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
        static = content.config["data"]["static"]
        layers = content.config["export"]["layers"]
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
                    _check_tensor(message)
            config = read_metadata({prop.key: prop.value for prop in model.metadata_props}, path)
            layers = config["export"]["layers"]
            if config["export"]["mode"] == "unroll":
                model.graph.output.extend(model.graph.value_info)  # the spikes, so that onnxruntime returns them
                return AtOnce(config, _Session(model, config, [SPIKES + name for name in layers], path).run)
            session = _Session(model, config, [AFTER + name for name in layers], path)
            _, *states = session.session.get_inputs()
            for layer, state in zip(layers.values(), states, strict=True):
                threshold = layer["threshold"]
                if isinstance(threshold, list) and len(threshold) != state.shape[1]:
                    raise Damaged(f"found {len(threshold)} thresholds of a layer, expected {state.shape[1]}")
            return Stepwise(config, session.run, [torch.zeros(1, *state.shape[1:]) for state in states])


class _Session:
    """The graph in onnxruntime, on the CPU; ``others`` are the names of its outputs after the logits."""

    def __init__(self, model: "onnx.ModelProto", config: Record, others: list[str], path: Path):
        import onnxruntime

        self.path = path
        self.outputs = ["logits", *others]
        found = [output.name for output in model.graph.output]
        if found != self.outputs:
            raise Damaged(
                f"found the outputs {', '.join(found):.{LONG}}, expected logits and one for each of the {len(others)} layers of its configuration"
            )
        self.T = config["model"]["T"]
        self.classes = config["model"]["num_classes"]
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        settings.log_severity_level = 4  # errors are raised; its log would print names of the file as they are
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])

    def run(self, *values: Tensor) -> list[Tensor]:
        """The outputs, for inputs in the order of the graph.

        Raises:
            CheckpointError: the graph cannot be run with them, or an output is of another type or shape than those of a network.
        """
        frame, *states = values
        with foreign(self.path, "a graph that can be run", hint=AGAIN, kind=CheckpointError):
            inputs = zip(self.session.get_inputs(), values, strict=True)
            outputs: list[Any] = self.session.run(None, {given.name: value.numpy() for given, value in inputs})
            batch = frame.shape[-4]
            leading = (batch,) if states else (self.T, batch)
            beginnings = [tuple(state.shape) for state in states] or [leading] * (len(outputs) - 1)
            for name, output, expected in zip(self.outputs, outputs, [(*leading, self.classes), *beginnings], strict=True):
                if output.dtype != np.float32 or output.shape[: len(expected)] != expected:
                    found = f"{output.dtype} of shape {output.shape}"
                    raise Damaged(f"{name:.{LONG}}: found {found}, expected float32 of shape {expected}")
        return [torch.from_numpy(output) for output in outputs]


def _check_tensor(tensor: "onnx.TensorProto") -> None:
    """Check that the values of a tensor are in the file, and finite.

    Raises:
        Damaged: they are in another file, which may be any file of the machine, or NaN or infinite.
    """
    import onnx

    if tensor.data_location == tensor.EXTERNAL:
        raise Damaged(f"{tensor.name:.{LONG}}: found weights in another file, expected all in this one")
    if tensor.data_type in FLOATS and not np.isfinite(onnx.numpy_helper.to_array(tensor)).all():
        raise Damaged(f"{tensor.name:.{LONG}}: found NaN or infinity, expected finite numbers")


def _clean(model: "onnx.ModelProto") -> None:
    """Remove source information of this machine, and rename the batch dimension and the weights.

    The exporter adds stack traces, source paths and classes to every operation and value, in ``metadata_props`` and ``doc_string``.
    """
    model.producer_name = "lsg"
    model.producer_version = __version__
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
                dimension.dim_param = "batch"


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
