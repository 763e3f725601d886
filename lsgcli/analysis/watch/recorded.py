"""Keep what was seen of a training as JSON, and read it again: it can then be judged without running the script."""

import base64
import linecache
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lsgcli.analysis.watch.evaluation import Judged
from lsgcli.analysis.watch.lines import Line, Operand
from lsgcli.analysis.watch.seen import Failure, Neurons, Outputs, Parameters, Seen
from lsgcli.errors import ConfigError
from lsgcli.system.schema import Record

SCHEMA = "lsg.seen/1"
STRUCTS = {kind.__name__: kind for kind in (Seen, Neurons, Parameters, Outputs, Failure)}
TUPLES = {kind.__name__: kind for kind in (Line, Operand, Judged)}
DTYPES = {"float32", "float64", "int64", "int32", "int16", "uint8", "bool"}


def record_of(seen: Seen) -> Record:
    """What was seen, as JSON types, with the files of the user that it points at."""
    places = [*seen.lines.values(), *(layer.where for layer in seen.layers.values())]
    files = {place.file: "".join(linecache.getlines(place.file)) for place in places if place is not None}
    return {"schema": SCHEMA, "files": files, "seen": pack(seen)}


def seen_of(record: Mapping[str, Any]) -> Seen:
    """What :func:`record_of` has kept; lines of its files are those of the time of the recording.

    Raises:
        ConfigError: the record is not of this kind.
    """
    if record.get("schema") != SCHEMA:
        raise ConfigError(f"found a record of schema {record.get('schema')!r}, expected {SCHEMA}, as --record writes it")
    try:
        seen = unpack(record["seen"])
        for file, text in record["files"].items():
            linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"found a record that cannot be read ({error}), expected one that --record has written") from error
    if not isinstance(seen, Seen):
        raise ConfigError("found a record of something else, expected what was seen of a training")
    return seen


def pack(value: Any) -> Any:
    """A value as JSON types; what JSON has no type for is an object with one key, its kind."""
    kind = type(value).__name__
    if isinstance(value, Tensor | np.ndarray):
        array = value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(value)
        dtype = str(array.dtype).removeprefix("torch.")
        if dtype not in DTYPES:
            array, dtype = array.float(), "float32"
        data = base64.b64encode(array.contiguous().numpy().tobytes()).decode()
        numbers = {"dtype": dtype, "shape": list(array.shape), "data": data}
        return {"array" if isinstance(value, np.ndarray) else "tensor": numbers}
    if kind in STRUCTS:
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        return {kind: {name: pack(field) for name, field in fields.items() if name != "weight"}}
    if kind in TUPLES:
        return {kind: [pack(entry) for entry in value]}
    if isinstance(value, dict):
        return {"counter" if kind == "Counter" else "dict": [[pack(key), pack(entry)] for key, entry in value.items()]}
    if isinstance(value, tuple | set):
        return {"set" if kind == "set" else "tuple": [pack(entry) for entry in value]}
    if isinstance(value, list):
        return [pack(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    return value if isinstance(value, int | str | None) else str(value)


def unpack(value: Any) -> Any:
    """What :func:`pack` has packed."""
    if isinstance(value, list):
        return [unpack(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    ((kind, entries),) = value.items()
    if kind in STRUCTS:
        return STRUCTS[kind](**{name: unpack(entry) for name, entry in entries.items()})
    if kind in TUPLES:
        return TUPLES[kind](*map(unpack, entries))
    if kind in ("array", "tensor"):
        if entries["dtype"] not in DTYPES:
            raise ValueError(f"dtype {entries['dtype']}")
        array = np.frombuffer(base64.b64decode(entries["data"]), entries["dtype"]).reshape(entries["shape"]).copy()
        return array if kind == "array" else torch.from_numpy(array)
    if kind in ("dict", "counter"):
        pairs = {unpack(key): unpack(entry) for key, entry in entries}
        return Counter(pairs) if kind == "counter" else pairs
    if kind == "float":
        return float(entries)
    return {"set": set, "tuple": tuple}[kind](map(unpack, entries))
