"""Sanitising of PT2 files, so that loading them cannot execute code.

``torch.export.load`` trusts its file: it unpickles members, loads compiled libraries, passes text to ``sympy.sympify`` and ``exec``,
and resolves function names. A PT2 of `lsg export` needs none of these. :func:`inert` reads the archive as data, checks each member
against the format that lsg writes, and writes a new archive, which is what torch loads.
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


def inert(path: Path) -> io.BytesIO:
    """The archive at ``path``, rewritten with members that contain only tensors, numbers and names.

    Raises:
        CheckpointError: a member could execute code, or is not written by `torch.export.save` for a network of lsg.
        OSError, zipfile.BadZipFile: the file cannot be read.
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
    """The function that checks and rewrites a member, selected by its name without the top folder."""
    inner = name.split("/", 1)[-1] if "/" in name and not name.startswith("extra_files/") else name
    if re.fullmatch(
        r"models/model\.json|data/(weights|constants)/model_\w+_config\.json|serialized_exported_program\.json", inner
    ):
        return lambda content: _program(path, name, content)
    # torch before 2.10 stores weights like this, and torch before 2.8 everything except the graph.
    if re.fullmatch(r"data/(weights|constants|sample_inputs)/model\.pt|serialized_\w+\.pt", inner):
        return lambda content: _tensors(path, name, content)
    if re.fullmatch(
        r"data/weights/weight_\d+|data/constants/tensor_\d+|extra/lsg\.\w+|extra_files/lsg\.\w+|archive_format|archive_version"
        r"|byteorder|\.data/\w+|version",
        inner,
    ):
        return lambda content: content  # numbers, or text read by lsg itself
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
    """Tensors in tuples and dictionaries, which torch reads without executing pickled code."""
    import pickle

    import torch

    if not content:
        return content
    try:
        found = torch.load(io.BytesIO(content), weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, name, "a pickle that contains more than tensors") from error
    again = io.BytesIO()
    torch.save(found, again)
    return again.getvalue()


def _refused(path: Path, name: str, found: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {name}: found {found}, expected a program of tensors only; no code was executed",
        hint="Such a file can execute arbitrary code. Evaluate only exports of `lsg export`, or export the checkpoint again.",
    )
