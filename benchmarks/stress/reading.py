"""Rows of checkpoints that are damaged, hostile, or those of another network or format: read, or refused by name."""

import ast
import copy
import json
import os
import pickle
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from benchmarks.stress.rows import Case, forked, limit_memory, refused, row
from lsgcli import registry
from lsgcli.errors import CheckpointError
from lsgcli.store import checkpoint
from lsgcli.store.checkpoint import Checkpoint
from lsgcli.training.initialise import initialise, new_model
from tests import tiny
from tests.exports import saved
from tests.unit.models.helpers import SMALL

GOLDEN = Path(__file__).parents[2] / "tests" / "golden" / "checkpoint-1.safetensors"
SAFETENSORS = "safetensors notices 0 of 938 flipped data bits"


def small(path: Path) -> Checkpoint:
    return checkpoint.read(saved("mlp", path))


def same(first: Checkpoint, second: Checkpoint) -> bool:
    """Whether two checkpoints have the same content to the bit; without the digests of the package."""
    tensors = [
        {name: (x.dtype, x.shape, x.numpy().tobytes()) for name, x in {**one.weights, **one.extra}.items()}
        for one in (first, second)
    ]
    return tensors[0] == tensors[1] and (first.config, first.state) == (second.config, second.state)


# Rows 8 and 9


def judged(kind: str, path: Path, whole: Checkpoint) -> Case:
    """The case of a damaged file, which must be refused by name, or have the same content: blanks pad the header."""
    try:
        found = checkpoint.read(path)
    except CheckpointError as error:
        return Case(kind, "" if str(path) in error.message else f"the file is not named: {error}")
    except BaseException as error:
        return Case(kind, f"{type(error).__name__}: {error}")
    return Case(f"{kind}, without effect") if same(found, whole) else Case(kind, "not noticed")


@row(
    8,
    fault="flipped bits in a checkpoint, parts of another one",
    promise="exit status 4, and the message names the file",
    peers=SAFETENSORS,
    quick=300,
    full=1500,
)
def flipped_bits(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Two of three files have a flipped bit, half of them in the header; in the third, a block at a random place is that of a
    checkpoint of other weights. Accepted only with content that is equal to the bit: blanks pad the header."""
    path, content = folder / "last.safetensors", small(folder / "source")
    other = {name: x + 1 for name, x in content.weights.items()}
    checkpoint.save(path, Checkpoint(other, content.config, content.state, content.extra))
    splice, data = path.read_bytes(), (folder / "source").read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    for number in range(count):
        broken = bytearray(data)
        if number % 3:
            place = chance.randrange(header) if number % 3 == 1 else chance.randrange(header, len(data))
            broken[place] ^= 1 << chance.randrange(8)
        else:
            begin = chance.randrange(header, len(data))
            end = begin + chance.choice((4, 64, 512, 4096, len(data)))
            broken[begin:end] = splice[begin:end]
        path.write_bytes(broken)
        yield judged(("splice", "bit of the header", "bit of the tensors")[number % 3], path, content)


@row(
    9,
    fault="a truncated, empty or missing checkpoint",
    promise="exit status 4, and the message names the file",
    quick=200,
    full=1000,
)
def truncated(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """The file cut at a random byte or followed by random bytes, an empty and a missing file, a folder, a pipe, a loop of links."""
    path, content = folder / "last.safetensors", small(folder / "source")
    data = (folder / "source").read_bytes()
    for number in range(count):
        longer = number % 5 == 0
        path.write_bytes(data + chance.randbytes(chance.randrange(1, 99)) if longer else data[: chance.randrange(len(data))])
        yield judged("longer" if longer else "cut", path, content)
    path.write_bytes(b"")
    yield judged("empty", path, content)
    path.unlink()
    for kind, make in (
        ("missing", lambda: None),
        ("folder", path.mkdir),
        ("pipe", lambda: os.mkfifo(path)),
        ("link to itself", lambda: path.symlink_to(path)),
    ):
        make()
        yield judged(kind, path, content)
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


# Rows 10 and 11

SHAPES = ([2**62], [2**31, 2**31], [-1], [0], [2**63], [1.5], ["4"], None, [[4]], [10**30], 7)
OFFSETS = ([0, 2**40], [2**62, 2**63], [8, 4], [-8, 8], [0, 0], [0], [0, 1, 2], None, ["0", "8"], [0, 2**64])
VALUES = (float("nan"), float("inf"), None, -1, "", [], {}, 2**70, "\x00", {"lsg.config": None}, "{" * 5000, "[" * 100_000)
LIMIT = 0.05  # seconds of processor time for a header


def hostile_header(header: dict[str, Any], data: bytes, chance: random.Random) -> bytes:
    """A safetensors file whose header is wrong in one to three ways."""
    header = json.loads(json.dumps(header))
    names = [name for name in header if name != "__metadata__"]
    length = None

    def value() -> Any:
        return copy.deepcopy(chance.choice(VALUES))  # a later way may change it

    for _ in range(chance.choice((1, 1, 2, 3))):
        name, way = chance.choice(names), chance.randrange(8)
        if way == 0:
            header[name] = {**(header.get(name) or {}), "shape": chance.choice(SHAPES)}
        elif way == 1:
            header[name] = {**(header.get(name) or {}), "data_offsets": chance.choice(OFFSETS)}
        elif way == 2:  # two tensors in one place
            header[name] = header.get(chance.choice(names)) or {}
        elif way == 3:
            header[name] = {**(header.get(name) or {}), "dtype": chance.choice(("F128", "", None, 8, "f32", "BOOL", "F64"))}
        elif way == 4 and isinstance(header.get("__metadata__"), dict):
            metadata = header["__metadata__"]
            metadata[chance.choice([*metadata, "lsg.other"])] = value()
        elif way == 5:
            header["__metadata__"] = value()
        elif way == 6:
            header[chance.choice(("", "\x00", "../x", "optim/", name * 50))] = chance.choice((header.get(name), value()))
        else:
            length = chance.choice((0, 1, 2**24, 2**31, 2**40, 2**63 - 1, 2**64 - 1, 100_000_000, 100_000_001))
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


@row(
    10,
    fault="a hostile header: huge, overlapping, wrong types, NaN",
    promise="exit status 4 in 50 ms, before any allocation",
    peers="safetensors is audited, and fuzzed with 20 cases",
    quick=1500,
    full=100_000,
)
def hostile_headers(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Headers wrong in one to three ways (shapes, offsets, overlaps, types, metadata, lengths), read by a forked process that may
    allocate 1 GiB and take 50 ms of processor time for each."""
    path, content = folder / "last.safetensors", small(folder / "source")
    raw = (folder / "source").read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8:end]), raw[end:]

    def read() -> Iterator[Case]:
        limit_memory(1 << 30)
        for _ in range(count):
            path.write_bytes(hostile_header(header, data, chance))
            begin = time.thread_time()
            case = judged("header", path, content)
            taken = time.thread_time() - begin
            yield case if case.problem or taken <= LIMIT else Case("header", f"took {1000 * taken:.0f} ms")

    yield from forked(read)


@row(
    11, fault="a file that runs code when it is unpickled", promise="refused with exit status 4; nothing runs", quick=1, full=1
)
def malicious(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Pickles of each protocol, and torch.save's two formats, that would create a file, under four suffixes, as a checkpoint and for
    `--init-from`; and no module of the package imports an unpickler, or calls eval, exec, or a loader that may unpickle."""
    canary, net = folder / "canary", new_model(tiny.config(), 3, 2)

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return open, (str(canary), "w")

    makers: dict[str, Callable[[Path], object]] = {
        f"pickle {p}": lambda path, p=p: path.write_bytes(pickle.dumps({"weight": Trap()}, p)) for p in range(6)
    }
    makers["torch.save"] = lambda path: torch.save({"weight": Trap()}, path)
    makers["torch.save, legacy"] = lambda path: torch.save({"weight": Trap()}, path, _use_new_zipfile_serialization=False)
    makers["numpy"] = lambda path: np.save(path.open("wb"), np.array([Trap()], object), allow_pickle=True)
    for name, make in makers.items():
        for suffix in (".safetensors", ".pt", ".ckpt", ".bin"):
            path = folder / f"net{suffix}"
            make(path)
            case = refused(name, lambda path=path: checkpoint.load(path), CheckpointError, path)
            other = refused(name, lambda path=path: initialise(net, tiny.config(init_from=str(path))), CheckpointError, path)
            ran = canary.exists()
            canary.unlink(missing_ok=True)
            yield Case(name, "the code ran" if ran else case.problem or other.problem)

    loaders = {"eval", "exec", "pickle.load", "pickle.loads", "pickle.Unpickler", "torch.load"}
    for source in sorted((Path(checkpoint.__file__).parent).rglob("*.py")):
        found = []
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {node.module or ""} if isinstance(node, ast.ImportFrom) else {alias.name for alias in node.names}
                banned = {"marshal", "shelve", "dill", "joblib", "cloudpickle"}
                found += sorted((banned | ({"pickle"} if isinstance(node, ast.ImportFrom) else set())) & names)
            elif isinstance(node, ast.Call):
                options = {word.arg: ast.unparse(word.value) for word in node.keywords}
                loads = ast.unparse(node.func) in loaders and options.get("weights_only") != "True"
                found += [ast.unparse(node)] if loads or options.get("allow_pickle", "False") != "False" else []
        yield Case("module of the package", f"{source}: {found}" if found else "")


# Rows 12 and 13


@row(
    12,
    fault="a parameter of another shape or type, missing, or unknown; another network",
    promise="exit status 4; the message names file and parameter, and expected and found shape or type",
    quick=6,
    full=1000,
)
def other_parameters(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """In checkpoints of four small networks, each parameter and buffer in turn (with --quick, a few of each network) has another shape,
    another type, another name, or is left out; and the configuration names each other network."""
    for which in SMALL:
        content = checkpoint.read(saved(which, folder / "source"))
        path = folder / f"{which}.safetensors"

        def load(weights: Any, path: Path = path, content: Checkpoint = content, **changes: Any) -> None:
            checkpoint.save(path, Checkpoint(weights, {**content.config, **changes}, content.state))
            checkpoint.load(path)

        for name in chance.sample(sorted(content.weights), min(count, len(content.weights))):
            x = content.weights[name]
            others = {n: value for n, value in content.weights.items() if n != name}
            longer, shape = torch.cat([x.reshape(-1), x.new_zeros(1)]), list(x.shape)
            cast = x.double() if x.is_floating_point() else x.float()
            for kind, weights, parts in (
                ("shape", {**others, name: longer}, (name, list(longer.shape), shape)),
                ("type", {**others, name: cast}, (name, cast.dtype, x.dtype)),
                ("missing", others, (name,)),
                ("name", {**others, f"{name}_": x}, (name, f"{name}_")),
            ):
                yield refused(kind, lambda weights=weights, load=load: load(weights), CheckpointError, path, *parts)
        for arch in registry.names("arch"):
            if arch != content.config["arch"]:
                yield refused("network", lambda a=arch, c=content, load=load: load(c.weights, arch=a), CheckpointError, path)


@row(
    13,
    fault="a checkpoint of an older or newer format",
    promise="read with the same predictions, or exit status 4 with both versions",
)
def formats(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """A stored file of each format must give the logits that it was stored with; files of other versions are refused."""
    net, config = checkpoint.load(GOLDEN)
    stored = config["golden"]
    with torch.no_grad():
        found = net(torch.tensor(stored["input"]))
    close = torch.allclose(found, torch.tensor(stored["logits"]), rtol=1e-5, atol=1e-5)
    yield Case("format 1", "" if close else f"logits {found.tolist()}, expected {stored['logits']}")
    with safe_open(GOLDEN, "pt") as stream:
        metadata = stream.metadata()
    for version in ("0", "2", "10", "", "1.0", "one"):
        path = folder / "other.safetensors"
        save_file(load_file(GOLDEN), path, {**metadata, "lsg.format_version": version})
        parts = (path, f"version {version!r}", f"expected {checkpoint.FORMAT_VERSION!r}")
        yield refused("other version", lambda path=path: checkpoint.read(path), CheckpointError, *parts)
