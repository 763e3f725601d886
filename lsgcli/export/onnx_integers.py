"""Integer weights in an ONNX graph, and integer convolutions where their input is spikes.

A convolution of spikes becomes ConvInteger, whose sums are multiplied by the scale before the bias is added. In other layers, the integers
are multiplied by their scales before the layer. onnxruntime runs a Conv between DequantizeLinear and QuantizeLinear on integers only if its
output is rounded to 8 bits as well, which would change the currents of neurons.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from lsgcli.models.base import SpikingNet
from lsgcli.models.integer import levels_of
from lsgcli.models.quantise import Synapse, integers, synapses

if TYPE_CHECKING:
    import onnx

ZERO, MIDDLE = "quantised.zero", "quantised.middle"  # names of the zero points of inputs and of weights


def quantise(graph: "onnx.GraphProto", network: SpikingNet) -> None:
    """Replace the float weights of a graph, in place. It was traced from ``network``, whose weights are on a grid.

    Integers of ConvInteger are stored as uint8 with the zero point 128, with which it is four times as fast in onnxruntime as with int8.
    """
    from onnx import numpy_helper

    levels = levels_of(network)
    held = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    constants: dict[str, NDArray[np.generic]] = {ZERO: np.array(0, np.uint8), MIDDLE: np.array(128, np.uint8)}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        name, layer = next(_multiplying(node, network, held), ("", None))
        if layer is None:
            nodes.append(node)
            continue
        q, scale = integers(layer.weight, network.spec.bits)
        weight, n = f"{name}.weight", levels.get(layer)
        del held[node.input[1]]
        if n is None or node.op_type == "MatMul":
            constants |= {weight: q.numpy().T if node.op_type == "MatMul" else q.numpy(), f"{weight}_scale": scale.numpy()}
            nodes += _on_floats(node, weight)
        else:
            constants |= {
                weight: (q.to(torch.int16) + 128).to(torch.uint8).numpy(),
                f"{weight}_scale": (scale / n).view(-1, 1, 1).numpy(),
                f"levels.{n}": np.array(n, np.float32),
            }
            constants[node.input[2]] = held.pop(node.input[2]).reshape(-1, 1, 1)
            nodes += _on_integers(node, name, n)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}  # runtimes warn about others
    kept = [weight for weight in graph.initializer if weight.name in held]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *stored])


def _multiplying(
    node: "onnx.NodeProto", network: SpikingNet, held: dict[str, NDArray[np.generic]]
) -> Iterator[tuple[str, Synapse]]:
    """Name and module of the layer whose weights the node multiplies by. The graph contains the transposed weight of a linear layer."""
    for name, layer in synapses(network) if node.op_type in ("Conv", "MatMul") else ():
        values = held.get(node.input[1])
        if node.input[1] == f"{name}.weight" or (
            node.op_type == "MatMul" and values is not None and np.array_equal(values, layer.weight.detach().numpy().T)
        ):
            yield name, layer


def _on_floats(node: "onnx.NodeProto", weight: str) -> "Iterator[onnx.NodeProto]":
    """The nodes that replace a convolution of real values, or a linear layer, whose weight is transposed."""
    from onnx import TensorProto, helper

    node.input[1] = f"{weight}_float"
    if node.op_type == "Conv":
        yield helper.make_node("DequantizeLinear", [weight, f"{weight}_scale"], [f"{weight}_float"], axis=0)
    else:  # onnxruntime replaces DequantizeLinear and MatMul by a MatMulNBits, which rounds the input to 8 bits
        yield helper.make_node("Cast", [weight], [f"{weight}_whole"], to=TensorProto.FLOAT)
        yield helper.make_node("Mul", [f"{weight}_whole", f"{weight}_scale"], [f"{weight}_float"])
    yield node


def _on_integers(node: "onnx.NodeProto", name: str, levels: int) -> "Iterator[onnx.NodeProto]":
    """The nodes that replace a convolution of multiples of 1/levels."""
    from onnx import TensorProto, helper

    source = node.input[0]
    if levels > 1:
        yield helper.make_node("Mul", [source, f"levels.{levels}"], [f"{name}.counts"])
        source = f"{name}.counts"
    yield helper.make_node("Cast", [source], [f"{name}.bytes"], to=TensorProto.UINT8)
    convolution = helper.make_node("ConvInteger", [f"{name}.bytes", f"{name}.weight", ZERO, MIDDLE], [f"{name}.sums"], name)
    convolution.attribute.extend(node.attribute)
    yield convolution
    yield helper.make_node("Cast", [f"{name}.sums"], [f"{name}.float"], to=TensorProto.FLOAT)
    yield helper.make_node("Mul", [f"{name}.float", f"{name}.weight_scale"], [f"{name}.scaled"])
    yield helper.make_node("Add", [f"{name}.scaled", node.input[2]], node.output)
