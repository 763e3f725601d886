"""A PT2 file without anything that could run code.

``torch.export.load`` trusts its file: it unpickles members, loads compiled libraries, gives texts to ``sympy.sympify`` and to
``exec``, and resolves names of functions. A PT2 of `lsg export` needs none of that. :func:`inert` reads an archive as data, checks
each member against what lsg writes, and writes a new archive for torch, which never sees the file itself.
"""

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lsgcli.errors import CheckpointError

# A plain name or a number: no call, no private attribute.
NAME = re.compile(r"(?!.*__)[\w.+]*")
# Operators on tensors. from_file and save take the name of a file.
OPERATOR = re.compile(r"torch\.ops\.aten\.(?!from_file\b|save\b)(?!.*__)\w+\.\w+")
# Sums and products of symbols, as sympy prints a tensor's size.
WORDS = "Symbol|Integer|Add|Mul|Min|Max|Mod|FloorDiv|CleanDiv|PythonMod|positive|integer|nonnegative|True|False|[su]\\d+|\\d+"
EXPRESSION = re.compile(rf"(\b({WORDS})\b|\*(?!\*)|[\s(),='+/-])*")
# How arguments are nested in tuples, lists and dictionaries.
NESTING = re.compile(r"""([\s\d\[\]{}:,]|null|"(type|context|children_spec|null|\[\]|builtins\.(tuple|list|dict))")*""")
CHOICES = {"same", "valid", "trunc", "floor"}  # texts that operators take

Check = Callable[[str], object]
CHECKS: Mapping[str, Check] = {  # by the key of the text in the JSON; any other is a NAME
    "target": OPERATOR.fullmatch,
    "expr_str": EXPRESSION.fullmatch,
    "in_spec": NESTING.fullmatch,
    "out_spec": NESTING.fullmatch,
    "as_string": CHOICES.__contains__,
    "as_strings": CHOICES.__contains__,
}
# What torch keeps about where operations come from, and Python code that checks the inputs: torch runs without.
DROPPED: Mapping[str, Any] = {"metadata": {}, "guards_code": []}


def inert(path: Path) -> io.BytesIO:
    """The archive at ``path``, written again from members that hold tensors, numbers and names alone.

    Raises:
        CheckpointError: a member could run code, or is not one that `torch.export.save` writes for a network of lsg.
        OSError, zipfile.BadZipFile: it cannot be read.
    """
    rewritten = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(rewritten, "w") as target:
        members = archive.infolist()
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or sum(other.filename == member.filename for other in members) > 1:
                raise _refused(path, member.filename, "a compressed or repeated member")
            content = _rewriter(path, member.filename)(archive.read(member))
            target.writestr(zipfile.ZipInfo(member.filename), content)
    rewritten.seek(0)
    return rewritten


def _rewriter(path: Path, name: str) -> Callable[[bytes], bytes]:
    """The function that checks a member and writes it again, by its name without the folder that torch puts around all."""
    inner = name.split("/", 1)[-1] if "/" in name and not name.startswith("extra_files/") else name
    if re.fullmatch(
        r"models/model\.json|data/(weights|constants)/model_\w+_config\.json|serialized_exported_program\.json", inner
    ):
        return lambda content: _program(path, name, content)
    # torch before 2.10 stores weights so, and torch before 2.8 everything but the graph.
    if re.fullmatch(r"data/(weights|constants|sample_inputs)/model\.pt|serialized_\w+\.pt", inner):
        return lambda content: _tensors(path, name, content)
    if re.fullmatch(
        r"data/weights/weight_\d+|data/constants/tensor_\d+|extra/lsg\.\w+|extra_files/lsg\.\w+|archive_format|archive_version"
        r"|byteorder|\.data/\w+|version",
        inner,
    ):
        return lambda content: content  # numbers, or text that lsg itself reads
    raise _refused(path, name, "a member that lsg does not write")


def _program(path: Path, name: str, content: bytes) -> bytes:
    def checked(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            for inner in value:
                if not NAME.fullmatch(inner):
                    raise _refused(path, name, repr(inner))
            return {inner: DROPPED[inner] if inner in DROPPED else checked(item, inner) for inner, item in value.items()}
        if isinstance(value, list):
            return [checked(item, key) for item in value]
        if (isinstance(value, str) and not CHECKS.get(key, NAME.fullmatch)(value)) or (key == "use_pickle" and value):
            raise _refused(path, name, f"{key} {value!r}"[:200])
        return value

    return json.dumps(checked(json.loads(content), "")).encode()


def _tensors(path: Path, name: str, content: bytes) -> bytes:
    """Tensors in tuples and dictionaries, which torch reads without running what a pickle says."""
    import pickle

    import torch

    if not content:
        return content
    try:
        found = torch.load(io.BytesIO(content), weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, name, "a pickle that holds more than tensors") from error
    again = io.BytesIO()
    torch.save(found, again)
    return again.getvalue()


def _refused(path: Path, name: str, found: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {name}: found {found}, expected a program of tensors alone; nothing of it was run",
        hint="Such a file can run any program. Evaluate only exports of `lsg export`, or export the checkpoint again.",
    )
