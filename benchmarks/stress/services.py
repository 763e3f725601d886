"""Rows of services that a command uses: the Hub, and loggers."""

import contextlib
import functools
import importlib.util
import random
import shlex
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from benchmarks.stress.program import Command, tensors, warm
from benchmarks.stress.rows import Case, refused, row, small_disk
from benchmarks.stress.runs import at
from lsgcli import registry
from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.runs import report
from lsgcli.store import checkpoint, hub
from tests import exports, hub_server

FAULTS = shlex.split("401 403 404 429 500 503 half other longer empty page closed stalls redirect loop moved")
COMMIT = "c" * 40


@contextlib.contextmanager
def remote(folder: Path) -> Iterator[tuple[hub_server.Hub, bytes]]:
    """The stand-in for the Hub, with a checkpoint in ``ann/net``, and the content of the checkpoint; waiting takes no time."""
    from huggingface_hub import constants

    exports.saved("mlp", folder / "net")
    exports.saved("mlp", folder / "other", seed=3)
    content, really_sleep = (folder / "net").read_bytes(), time.sleep
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(hub_server.hub("a token", folder / "hub"))
        server.pause = 0.5
        files = {"model.safetensors": content, "elsewhere": (folder / "other").read_bytes()}
        server.repositories["ann/net"] = hub_server.Repository(False, {"main": COMMIT}, {COMMIT: files})
        stack.enter_context(mock.patch.multiple(constants, HF_HUB_DOWNLOAD_TIMEOUT=0.2, HF_HUB_ETAG_TIMEOUT=2))
        stack.enter_context(mock.patch.object(time, "sleep", lambda seconds: really_sleep(min(seconds, server.pause / 10))))
        yield server, content


@row(
    44,
    fault="the Hub answers 403, 500, half a file, another file",
    promise="exit status 4 and a message that names the checkpoint; nothing is cached, and the next attempt loads the right file",
    quick=len(FAULTS),
    full=100,
)
def downloads(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """A stand-in for the Hub on this machine, for `hf:USER/NAME`: statuses 401 to 503, half of
    the file, other content, more or no content, a web page, a closed connection, a stall, redirects to another file, in a loop, and to
    the same file, which must load. No complete file may be left, and without the fault the right file must load."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return
    with remote(folder) as (server, content):
        for number in range(count):
            fault = server.fault = FAULTS[number % len(FAULTS)]
            problem = _load("hf:ann/net", content, folder, expected=fault == "moved")
            server.fault = ""
            yield Case(fault, problem or _load("hf:ann/net", content, folder, expected=True))
            shutil.rmtree(folder / "hub", ignore_errors=True)


def _load(name: str, content: bytes, folder: Path, expected: bool) -> str:
    """The problem of loading a remote checkpoint, which is expected to succeed or to leave nothing."""
    hub._local.cache_clear()
    try:
        path = hub.local(name)
        right = path.read_bytes() == content and checkpoint.read(path)
        return "" if right and expected else f"loaded {'the right' if right else 'another'} file"
    except (CheckpointError, ConfigError) as error:
        kept = [str(path) for path in (folder / "hub").rglob("*.safetensors")]
        kept += [str(path) for path in (folder / "hub").glob("*/blobs/*") if path.suffix != ".incomplete"]
        return f"refused: {error}" if expected else "" if name in str(error) and not kept else f"kept {kept}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


OUTSIDE = "../../../outside"  # of a file's place in the cache
PATHS = ("{folder}/outside/kept", f"{OUTSIDE}/kept", f"{OUTSIDE}/new", "..", ".", "a/b", "", "a\x01b", "a\x1b[2J", "a" * 999)
HOSTILE = [(header, path) for header in ("ETag", "X_Linked_ETag", "X_Repo_Commit", "X_Xet_Hash") for path in PATHS]
HOSTILE += [("404", path) for path in PATHS]  # in the commit of an answer that there is no such file
HOSTILE += [("Location", place) for place in ("file://{folder}/outside/kept", "/..", "/../../\x01", "http://[::1", "")]
HOSTILE += [(header, str(10**18)) for header in ("Content_Length", "X_Linked_Size")]
HOSTILE += [
    ("name", name) for name in ("hf:../net", "hf:ann/..", "hf:ann/net@..", f"hf:ann/net@{OUTSIDE}", "hf:ann/net@a\x01b")
]
HOSTILE += [("push", answer) for answer in ("{}", "[]", "null", '{"url": 1}', "not JSON")]


@row(
    59,
    fault="the Hub answers with paths instead of digests, links to files, sizes of 10^18 bytes, JSON of another form; `..` in a name",
    promise="exit status 4 (2 for a name); nothing outside the cache is read, written or deleted; no warning of a library",
    quick=len(HOSTILE),
    full=len(HOSTILE),
)
def hostile_hub(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """A stand-in for the Hub whose ETag, commit, digest of Xet, redirect or size is replaced by absolute and relative paths to a file
    outside, by nothing, control characters, 999 characters or 10^18; names with `..`; JSON without the fields that an upload needs. The
    files outside must stay as they were, the cache must have no complete file, and no warning may be shown."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return
    with remote(folder) as (server, _):
        (folder / "net-to-push").mkdir()
        (folder / "net-to-push" / "config.json").write_text("{}")
        files = server.repositories["ann/net"].commits[COMMIT]
        for kind, text in HOSTILE[:count]:
            value, name = text.replace("{folder}", str(folder)), "hf:ann/net"
            server.headers, server.says, missing = {}, None, {}
            shutil.rmtree(folder / "outside", ignore_errors=True)
            (folder / "outside").mkdir()
            (folder / "outside" / "kept").write_text("a file of the user")
            before = _contents(folder)
            if kind == "name":
                name = value
            elif kind == "push":
                server.says = value.encode()
            elif kind == "404":
                server.headers, missing = {"X_Repo_Commit": value}, {"model.safetensors": files.pop("model.safetensors")}
            else:
                server.headers = {kind: value if "ETag" not in kind else f'"{value}"'}
            with warnings.catch_warnings(record=True) as shown:
                warnings.simplefilter("always")
                problem = _push(folder / "net-to-push") if kind == "push" else _load(name, b"", folder, expected=False)
            files.update(missing)
            if _contents(folder) != before:
                problem = f"outside of the cache are now {sorted(map(str, _contents(folder)))}"
            for one in shown:
                if not issubclass(one.category, DeprecationWarning):  # of huggingface_hub, about its use of httpx2
                    problem = problem or f"warned: {one.message}"
            yield Case(f"{kind} {text}"[:40], problem)
            shutil.rmtree(folder / "hub", ignore_errors=True)


def _contents(folder: Path) -> dict[Path, bytes]:
    """All files but those of the cache."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and folder / "hub" not in path.parents}


def _push(folder: Path) -> str:
    """The problem of an upload that must end with status 4."""
    return refused("push", lambda: hub.push(folder, "ann/net", private=False), CheckpointError, "ann/net")[1]


INSTALLED = [
    name
    for name in registry.names("logger")
    if all(importlib.util.find_spec(package) for package in registry.get("logger", name).packages)
]
ABSENT = "http://127.0.0.1:9"  # a port without a service
SERVICES = {
    "mlflow": {"MLFLOW_TRACKING_URI": ABSENT},
    "wandb": {"WANDB_MODE": "online", "WANDB_BASE_URL": ABSENT, "WANDB_API_KEY": "0" * 40, "WANDB_INIT_TIMEOUT": "2"},
}


def raising(name: str, method: str, skip: int) -> Callable[[], None]:
    def fail(*arguments: object) -> None:
        raise RuntimeError("a logger that fails\nin two lines")

    return lambda: at(registry.get("logger", name), method, fail, skip=skip, every=True)


@row(
    45,
    fault="a logger raises, its disk is full, its service is down",
    promise="one warning; training continues with a bit-identical result",
    quick=2,
    full=10,
)
def failing_loggers(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """`lsg train --log NAME` for each logger that is installed (--quick: those that write files of their own). Each of its methods
    raises at a random epoch; `logs` is on a disk that is full; its address has no server. The run must end with status 0, one warning, and
    a checkpoint bit-identical to that of a run without loggers."""
    words = warm(folder)
    plain = Command([*words, "--out", "run"], folder / "plain").run()
    expected = tensors(folder / "plain" / "run")
    yield Case("without a logger", plain.ended(0))

    def case(kind: str, place: Path, before: Callable[[], object], variables: dict[str, str]) -> Case:
        name = kind.split()[0]
        one = Command([*words, "--out", "run", "--log", name], place, variables, before).run()
        warnings = [line for line in one.err.splitlines() if line.startswith(f"warning: --log {name}") or "--log" in line]
        problem = one.ended(0) or ("" if tensors(place / "run") == expected else "other bits")
        return Case(kind, problem or ("" if len(warnings) == 1 else f"{len(warnings)} warnings: {one.err[-300:]}"))

    for name in [name for name in INSTALLED if count > 2 or name in ("csv", "tensorboard")]:
        own = {"WANDB_DATA_DIR": "staging", "WANDB_CACHE_DIR": "wandb", "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
        for number in range(count if name in ("csv", "tensorboard") else max(1, count // 2)):
            method = ("__init__", "epoch", "end", "close")[number % 4]
            skip = chance.randrange(2) if method == "epoch" else 0
            yield case(f"{name} raises", folder / f"{name}-{number}", raising(name, method, skip), own)
        if name in SERVICES and count > 2:
            yield case(f"{name} without its service", folder / f"{name}-service", lambda: None, own | SERVICES[name])
        if count > 2 or name == "csv":
            disk = folder / f"{name}-disk"
            with small_disk(disk, "size=8k") as mounted:
                if mounted:
                    with contextlib.suppress(OSError), open(disk / "rest", "wb", 0) as rest:
                        while True:
                            rest.write(bytes(512))
                    on_disk = functools.partial(setattr, report, "LOGS", str(disk))
                    yield case(f"{name} on a full disk", folder / f"{name}-full", on_disk, own)


SECRET = "s3cr3t"
PLACES = ("a query", "a user", "ablate", "the Hub", "mlflow")


@row(
    67,
    fault="secrets in addresses: user and password, tokens, signatures",
    promise="never printed, logged, or stored in a run, a report or a tracker",
    peers="MLflow, requests and urllib print them in warnings and errors",
    quick=3,
    full=len(PLACES),
)
def secrets(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Commands with a secret in an address: in place of a checkpoint, for `train --init-from` and in an ablation over it; the Hub and
    MLflow at addresses where nothing answers. What they print, and every file that they write, must not contain the secret."""
    words = warm(folder)
    closed = "127.0.0.1:9"  # where nothing answers
    signed = f"http://{closed}/net?X-Signature={SECRET}"
    cases: dict[str, tuple[list[str], int, dict[str, str | None]]] = {
        "a query": ([*words, "--epochs", "1", "--init-from", signed, "--out", "run", "--log", "tensorboard"], 2, {}),
        "a user": (["show", f"http://ann:{SECRET}@{closed}/net"], 2, {}),
        "ablate": (
            ["ablate", *words[1:], "--epochs", "1", "--seeds", "0", "method=lsg", f"init_from={signed}", "--out", "out"],
            2,
            {},
        ),
        "the Hub": (["show", "hf:ann/net"], 4, {"HF_ENDPOINT": f"http://ann:{SECRET}@{closed}"}),
        "mlflow": ([*words, "--log", "mlflow", "--out", "run"], 0, {"MLFLOW_TRACKING_URI": f"http://ann:{SECRET}@{closed}"}),
    }
    for kind in PLACES[:count]:
        given, status, variables = cases[kind]
        ran = Command(given, folder / kind, variables).run()
        leaks = [str(path) for path in (folder / kind).rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
        yield Case(kind, ran.ended(status) or (f"in {leaks}" if leaks else ""))
