"""The network as a ``torch.export`` program, which requires torch but not lsg.

``torch.export.load`` trusts its file: it unpickles members, loads compiled libraries, passes text to ``sympy.sympify`` and ``exec``,
and resolves function names. A PT2 of `lsg export` needs none of these. :func:`inert` reads the archive as data, checks each member
against the format that lsg writes, and writes a new archive, which is what torch loads.
"""

import io
import json
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from lsgcli.errors import CheckpointError
from lsgcli.export.base import ExportOptions, Format, check_layers, metadata, read_metadata, reading
from lsgcli.export.graphs import explained, trace
from lsgcli.export.runners import Output, Runner, Stepwise
from lsgcli.models.base import SpikingNet
from lsgcli.registry import register
from lsgcli.store.checkpoint import Checkpoint

KEYS = ("lsg.export_version", "lsg.config")


@register("format", "pt2")
class PT2(Format):
    """A `torch.export` program, of all timesteps or of one, which requires only torch."""

    suffix = ".pt2"
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
        found: dict[str, Any] = dict.fromkeys(KEYS, "")
        with reading(path, "found an invalid file, expected a torch.export program"):
            program = torch.export.load(inert(path), extra_files=found)
        texts = {key: text.decode() if isinstance(text, bytes) else text for key, text in found.items() if text}
        config = read_metadata(texts, path)
        if config["export"]["mode"] == "unroll":
            return _Unrolled(program, config)
        assert program.example_inputs is not None
        rest = program.example_inputs[0][1:]
        check_layers(config, rest, path)
        return Stepwise(config, program.module(), rest)


class _Unrolled(Runner):
    """Runs all timesteps at once, node by node, and records the spikes of each layer, which are the outputs of ``stack``."""

    def __init__(self, program: ExportedProgram, config: dict[str, Any]):
        super().__init__(config)
        self.module = program.module()

    def run(self, x: Tensor) -> Output:
        stacked = []

        class Watching(torch.fx.Interpreter):
            def run_node(self, n: torch.fx.Node) -> Any:
                value = super().run_node(n)
                if n.target is torch.ops.aten.stack.default:
                    stacked.append(value)
                return value

        logits = Watching(self.module).run(x)
        return Output(logits, dict(zip(self.config["export"]["layers"], stacked, strict=True)))


# A plain name or a number: no call, no private attribute.
NAME = re.compile(r"(?!.*__)[\w.+]*")
# Operators on tensors, except from_file and save, which access files.
OPERATOR = re.compile(r"torch\.ops\.aten\.(?!from_file\b|save\b)(?!.*__)\w+\.\w+")
# Sums and products of symbols, as printed by sympy for the size of a tensor.
WORDS = "Symbol|Integer|Add|Mul|Min|Max|Mod|FloorDiv|CleanDiv|PythonMod|positive|integer|nonnegative|True|False|[su]\\d+|\\d+"
EXPRESSION = re.compile(rf"(\b({WORDS})\b|\*(?!\*)|[\s(),='+/-])*")
# Nesting of arguments in tuples, lists and dictionaries.
NESTING = re.compile(r"""([\s\d\[\]{}:,]|null|"(type|context|children_spec|null|\[\]|builtins\.(tuple|list|dict))")*""")
CHOICES = {"same", "valid", "trunc", "floor"}  # string arguments of operators

Check = Callable[[str], object]
CHECKS: Mapping[str, Check] = {  # by the key of the string in the JSON; any other must be a NAME
    "target": OPERATOR.fullmatch,
    "expr_str": EXPRESSION.fullmatch,
    "in_spec": NESTING.fullmatch,
    "out_spec": NESTING.fullmatch,
    "as_string": CHOICES.__contains__,
    "as_strings": CHOICES.__contains__,
}
# Source locations of operations, and Python code that checks inputs; torch does not need them.
DROPPED: Mapping[str, Any] = {"metadata": {}, "guards_code": []}
# Members of the archive, by their name without the top folder: JSON of operations and shapes; pickled tensors, as torch before 2.10
# stores weights, and torch before 2.8 everything except the graph; numbers, and text that lsg itself reads.
PROGRAMS = re.compile(r"models/model\.json|data/(weights|constants)/model_\w+_config\.json|serialized_exported_program\.json")
TENSORS = re.compile(r"data/(weights|constants|sample_inputs)/model\.pt|serialized_\w+\.pt")
DATA = re.compile(
    r"data/weights/weight_\d+|data/constants/tensor_\d+|extra/lsg\.\w+|extra_files/lsg\.\w+|archive_format|archive_version"
    r"|byteorder|\.data/\w+|version"
)


class _Refused(Exception):
    """A member of the archive could execute code, or is not one that lsg writes."""


def inert(path: Path) -> io.BytesIO:
    """The archive at ``path``, rewritten with members that contain only tensors, numbers and names.

    Raises:
        CheckpointError: a member could execute code, or is not written by `torch.export.save` for a network of lsg.
        OSError, zipfile.BadZipFile: the file cannot be read.
    """
    rewritten = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(rewritten, "w") as target:
        counts = Counter(archive.namelist())
        for member in archive.infolist():
            try:
                if member.compress_type != zipfile.ZIP_STORED or counts[member.filename] > 1:
                    raise _Refused("a compressed or repeated member")
                content = _checked(member.filename, archive.read(member))
            except _Refused as error:
                raise CheckpointError(
                    f"{path}: {member.filename}: found {error}, expected a program of tensors only; no code was executed",
                    hint="Such a file can execute arbitrary code. Evaluate only exports of `lsg export`, or export the checkpoint again.",
                ) from error
            target.writestr(zipfile.ZipInfo(member.filename), content)
    rewritten.seek(0)
    return rewritten


def _checked(name: str, content: bytes) -> bytes:
    """The content of a member, rewritten without what torch would execute. Its name without the top folder determines its kind."""
    inner = name.split("/", 1)[-1] if "/" in name and not name.startswith("extra_files/") else name
    if PROGRAMS.fullmatch(inner):
        return json.dumps(_program(json.loads(content), "")).encode()
    if TENSORS.fullmatch(inner) and content:
        try:
            found = torch.load(io.BytesIO(content), weights_only=True)  # executes no pickled code
        except pickle.UnpicklingError as error:
            raise _Refused("a pickle that contains more than tensors") from error
        again = io.BytesIO()
        torch.save(found, again)
        return again.getvalue()
    if not TENSORS.fullmatch(inner) and not DATA.fullmatch(inner):
        raise _Refused("a member that lsg does not write")
    return content


def _program(value: Any, key: str) -> Any:
    """JSON found under a key, checked, without its DROPPED parts."""
    if isinstance(value, dict):
        if strange := [inner for inner in value if not NAME.fullmatch(inner)]:
            raise _Refused(repr(strange[0]))
        return {inner: DROPPED[inner] if inner in DROPPED else _program(item, inner) for inner, item in value.items()}
    if isinstance(value, list):
        return [_program(item, key) for item in value]
    if (isinstance(value, str) and not CHECKS.get(key, NAME.fullmatch)(value)) or (key == "use_pickle" and value):
        raise _Refused(f"{key} {value!r}"[:200])
    return value
