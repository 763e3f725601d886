"""Rows of files whose numbers are not finite, and of ONNX graphs that do not run as those of lsg do."""

import contextlib
import math
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nir
import numpy as np
import onnx
import torch
from PIL import Image

from benchmarks.stress.program import Command
from benchmarks.stress.rows import Case, refused, row
from lsgcli.errors import TEXT, CheckpointError, DivergedError
from lsgcli.inference.predict import Network, predict
from lsgcli.store import checkpoint
from tests import exports, networks

VALUES = (math.nan, math.inf, -math.inf)
FORMS: tuple[tuple[str, dict[str, str]], ...] = (("onnx", {"mode": "unroll"}), ("onnx", {"mode": "step"}), ("nir", {}))
ESCAPES = "\x1b]0;title\x07\x1b[31mred"
BLANK = np.zeros((1, 16, 16), np.uint8)


def spoilt(x: np.ndarray, chance: random.Random) -> np.ndarray:
    x = np.array(x, x.dtype, ndmin=x.ndim)
    x.flat[chance.randrange(x.size)] = chance.choice(VALUES)
    return x


def in_checkpoint(source: Path, target: Path, chance: random.Random) -> str:
    """Write a checkpoint with a tensor that is not finite; returns the tensor's name."""
    content = checkpoint.read(source)
    weights = dict(content.weights)
    name = chance.choice([name for name, x in weights.items() if x.is_floating_point()])
    weights[name] = torch.from_numpy(spoilt(weights[name].numpy(), chance))
    checkpoint.save(target, checkpoint.Checkpoint(weights, content.config, content.state))
    return name


def in_onnx(source: Path, target: Path, chance: random.Random) -> str:
    model = onnx.load(source)
    weight = chance.choice([x for x in model.graph.initializer if x.data_type == onnx.TensorProto.FLOAT])
    name = weight.name
    weight.CopyFrom(onnx.numpy_helper.from_array(spoilt(onnx.numpy_helper.to_array(weight), chance), name))
    target.write_bytes(model.SerializeToString())
    return name


def in_nir(source: Path, target: Path, chance: random.Random) -> str:
    graph = nir.read(source)
    arrays = [
        (name, key)
        for name, node in graph.nodes.items()
        for key, value in vars(node).items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
    ]
    name, key = chance.choice(arrays)
    setattr(graph.nodes[name], key, spoilt(getattr(graph.nodes[name], key), chance))
    nir.write(target, graph)
    return name


def used(path: Path) -> object:
    """Logits of an empty image."""
    network = Network.open(path, device="cpu")
    return network.logits(network.batch([BLANK]))


@row(
    61,
    fault="NaN or infinity in weights, thresholds, statistics of a checkpoint, NIR or ONNX; logits that are not finite",
    promise="exit status 4 (file) or 5 (computed) that names the tensor; JSON is always valid JSON",
    quick=60,
    full=2000,
)
def not_finite(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """A random element of a random tensor becomes NaN or infinite: of a checkpoint and its folded export, of ONNX in both modes, of a NIR graph. Finite weights of 3e38 give logits that are not finite, in evaluation and prediction. Every fortieth
    case runs `predict --json` and `eval --json`."""
    source = networks.saved(folder / "net.safetensors", dataset="digits", sensor=None)
    Image.fromarray(BLANK[0]).save(folder / "a.png")
    kinds: dict[str, tuple[Path, Callable[[Path, Path, random.Random], str]]] = {"checkpoint": (source, in_checkpoint)}
    exports.exported(source, "safetensors", folder / "folded.safetensors")
    kinds["export"] = folder / "folded.safetensors", in_checkpoint
    for form, options in FORMS:
        kind = options.get("mode", form)
        exports.exported(source, form, folder / f"{kind}.{form}", **options)
        kinds[kind] = folder / f"{kind}.{form}", in_onnx if form == "onnx" else in_nir
    (folder / "spoilt").mkdir()
    for number in range(count):
        kind = [*kinds, "computed"][number % (len(kinds) + 1)]
        if kind == "computed":
            path = folder / "spoilt" / "huge.safetensors"
            content = checkpoint.read(source)
            huge = {name: x * 0 + 3e38 for name, x in content.weights.items() if name.startswith("classifier.")}
            checkpoint.save(path, checkpoint.Checkpoint(content.weights | huge, content.config, content.state))
            yield refused(kind, lambda path=path: list(predict(path, [folder / "a.png"])), DivergedError, "logits")
            continue
        whole, spoil = kinds[kind]
        path = folder / "spoilt" / whole.name
        name = spoil(whole, path, chance)
        yield refused(kind, lambda path=path: used(path), CheckpointError, path.name, name)
        if number % 40 == 0:
            for words in (["predict", path, folder / "a.png", "--json"], ["eval", path, "--json"]):
                ran = Command(words, folder / "command").run(60)
                yield Case(f"{words[0]}, command", ran.ended(4, name) or ("stdout has a line" if ran.out else ""))


def renamed(model: onnx.ModelProto, name: str, node: str, *others: str, **attributes: Any) -> None:
    """A new last operation, which makes the output ``name`` of what made it before."""
    for made in model.graph.node:
        made.output[:] = ["before" if x == name else x for x in made.output]
    model.graph.node.append(onnx.helper.make_node(node, ["before", *others], [name], f"{ESCAPES}{node}", **attributes))


def constant(model: onnx.ModelProto, name: str, values: list[int]) -> str:
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def value(model: onnx.ModelProto, name: str) -> Any:
    return next(x for x in [*model.graph.output, *model.graph.value_info] if x.name == name)


def cast(model: onnx.ModelProto, name: str) -> None:
    value(model, name).type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    renamed(model, name, "Cast", to=onnx.TensorProto.DOUBLE)


def in_sequence(model: onnx.ModelProto, name: str) -> None:
    kind = value(model, name).type
    kind.CopyFrom(onnx.helper.make_sequence_type_proto(onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)))
    renamed(model, name, "SequenceConstruct")


def reshaped(model: onnx.ModelProto, name: str) -> None:
    value(model, name).type.tensor_type.ClearField("shape")
    renamed(model, name, "Unsqueeze", constant(model, "axes", [0]))


def doubled(model: onnx.ModelProto, name: str) -> None:
    value(model, name).type.tensor_type.ClearField("shape")
    renamed(model, name, "Concat", "before", axis=1)


def fails(model: onnx.ModelProto, name: str) -> None:
    value(model, name).type.tensor_type.ClearField("shape")
    renamed(model, name, "Reshape", constant(model, ESCAPES, [7, 7, 7, 1013]))


def out_of_bounds(model: onnx.ModelProto, name: str) -> None:
    value(model, name).type.tensor_type.ClearField("shape")
    renamed(model, name, "Gather", constant(model, ESCAPES, [1 << 20]))


def missing(model: onnx.ModelProto, name: str) -> None:
    outputs = model.graph.output if value(model, name) in list(model.graph.output) else model.graph.value_info
    outputs.remove(value(model, name))


def duplicated(model: onnx.ModelProto, name: str) -> None:
    model.graph.output.append(value(model, name))


def unknown(model: onnx.ModelProto, name: str) -> None:
    renamed(model, name, f"{ESCAPES}Op", domain=ESCAPES)


def unmade(model: onnx.ModelProto, name: str) -> None:
    renamed(model, name, "Add", ESCAPES)


def another_input(model: onnx.ModelProto, name: str) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info(ESCAPES, onnx.TensorProto.FLOAT, [1]))


def input_of_integers(model: onnx.ModelProto, name: str) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    first = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["as float" if x == first else x for x in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("Cast", [first], ["as float"], ESCAPES, to=onnx.TensorProto.FLOAT))


GRAPHS = (cast, in_sequence, reshaped, doubled, fails, out_of_bounds)
GRAPHS += (missing, duplicated, unknown, unmade, another_input, input_of_integers)


@contextlib.contextmanager
def caught(path: Path) -> Iterator[None]:
    """Everything that this process writes to its streams, and what libraries in C++ write, goes to a file."""
    kept = [os.dup(number) for number in (1, 2)]
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        for number in (1, 2):
            os.dup2(target, number)
        yield
    finally:
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)
        os.close(target)


@row(
    62,
    fault="ONNX that fails at run time, or has outputs or inputs that are missing, duplicated, of other types or shapes; escape sequences in names",
    promise="exit status 4 in one line; no stream has an escape sequence, nor a line of onnxruntime's own log",
    quick=48,
    full=480,
)
def graphs_that_do_not_run(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Twelve changes to ONNX of both modes, at the logits or the spikes or state of a random layer: an output of another type, in a sequence, of
    another rank or length, missing, duplicated; an operation that fails while it runs, that does not exist, or lacks an input; another
    input, an input of integers. Names have escape sequences. What the process writes is caught; every twentieth case runs `predict`."""
    source = networks.saved(folder / "net.safetensors", dataset="digits", sensor=None)
    Image.fromarray(BLANK[0]).save(folder / "a.png")
    wholes = {}
    for mode in ("unroll", "step"):
        exports.exported(source, "onnx", folder / f"{mode}.onnx", mode=mode)
        wholes[mode] = onnx.load(folder / f"{mode}.onnx")
    path = folder / "changed.onnx"
    for number in range(count):
        mode, change = ("unroll", "step")[number % 2], GRAPHS[number // 2 % len(GRAPHS)]
        model = onnx.ModelProto()
        model.CopyFrom(wholes[mode])
        others = [x.name for x in [*model.graph.output, *model.graph.value_info]]
        name = others[0] if number % 3 else chance.choice(others)
        change(model, name)
        path.write_bytes(model.SerializeToString())
        with caught(folder / "written"):
            found = refused(f"{change.__name__}, {mode}", lambda: used(path), CheckpointError, path.name)
        written = (folder / "written").read_text(errors="replace")
        yield Case(found.kind, found.problem or (f"wrote {written[:200]!r}" if written else ""))
        if number % 20 == 0:
            ran = Command(["predict", path, folder / "a.png"], folder / "command").run(60)
            escaped = TEXT.search(ran.out + ran.err)
            yield Case(
                "command", ran.ended(4, path.name) or (f"wrote {ran.err[:200]!r}" if escaped or ran.err.count("\n") > 2 else "")
            )
