"""Run directories: where a run keeps what it was told and what it found.

runs/<dataset>-<arch>-<method>/<UTC time>-s<seed>-<tail>/
    config.json            settings, versions, command line, device
    metrics.jsonl          one line an epoch
    gradient-flow.jsonl    one line an epoch: beta, alpha, coverage, firing rate, gradient norm of every layer
    best.safetensors       the best epoch, on the split that ``metrics.jsonl`` names
    last.safetensors       the last epoch, with all that is needed to go on
    gradient-flow.json     the full measures of the network that the run ended with
    report.html            the whole run on a page
    result.json            accuracies of the finished run, or that it diverged
"""

import datetime
import fcntl
import json
import os
import secrets
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from lsgcli import files
from lsgcli.config import RunConfig, from_dict
from lsgcli.errors import ConfigError, RunInUseError

RUNS = Path("runs")
CONFIG, METRICS, GRADIENT_FLOW, FULL_FLOW = "config.json", "metrics.jsonl", "gradient-flow.jsonl", "gradient-flow.json"
BEST, LAST, REPORT, RESULT = "best.safetensors", "last.safetensors", "report.html", "result.json"
DIVERGED = "diverged.safetensors"
LOCK = ".lock"
FILES = frozenset({CONFIG, METRICS, GRADIENT_FLOW, FULL_FLOW, BEST, LAST, DIVERGED, REPORT, RESULT, LOCK})
SCHEMA = "lsg.run/1"
BEFORE_SCHEMA = {"settings", "lsg", "argv", "started"}  # what every config.json had when it did not name its schema
LARGEST = 1 << 26  # bytes of a config.json
ATTEMPTS = 5  # to lock a directory, 20 ms apart: whoever asks whether it is in use holds it for a moment


def new_path(config: RunConfig) -> Path:
    """A path that no other run has, below ``runs/``."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    data = config.dataset.replace(":", "-")
    return RUNS / f"{data}-{config.arch}-{config.method}" / f"{now}-s{config.seed}-{secrets.token_hex(3)}"


class RunDir:
    """An open run directory, locked against other processes until it is closed.

    Args:
        path: of the directory.
        force: an earlier run may be there; :meth:`clear` removes it.
        resume: go on with the run that is there.

    Raises:
        RunInUseError: another process holds it, or it has a run and neither ``force`` nor ``resume`` is given.
        ConfigError: nothing is there to resume.
        StorageError: it cannot be created or written.
    """

    def __init__(self, path: Path, *, force: bool = False, resume: bool = False):
        self.path = path
        check_free(path, force=force, resume=resume)
        self._made = [p for p in (path, *path.parents) if not p.exists()]
        self._lock = _lock(path)
        files.remove_partial(path)

    config_file = property(lambda self: self.path / CONFIG)
    metrics_file = property(lambda self: self.path / METRICS)
    gradient_flow_file = property(lambda self: self.path / GRADIENT_FLOW)
    best = property(lambda self: self.path / BEST)
    last = property(lambda self: self.path / LAST)
    report = property(lambda self: self.path / REPORT)
    result = property(lambda self: self.path / RESULT)

    def __enter__(self) -> "RunDir":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release the directory; one in which nothing was written is removed again."""
        (self.path / LOCK).unlink(missing_ok=True)
        self._lock.close()
        for folder in self._made:  # from the innermost outwards
            try:
                folder.rmdir()
            except OSError:  # something is in it
                break

    def trim(self, epochs: int) -> None:
        """Drop what was written about epochs from ``epochs`` on, which a killed process did but its checkpoint does not know."""
        for file in (self.metrics_file, self.gradient_flow_file):
            lines = files.read_json_lines(file)
            kept = [line for line in lines if line["epoch"] < epochs and line.get("event") != "diverged"]
            if file.exists():
                files.write_text(file, "".join(json.dumps(line) + "\n" for line in kept))

    def clear(self) -> None:
        """Remove what an earlier run left. To be called when the new one is certain to start."""
        for name in FILES - {LOCK}:
            (self.path / name).unlink(missing_ok=True)


def is_run(path: Path) -> bool:
    """Whether a directory holds a run: its ``config.json`` is one that `lsg train` wrote, of any version."""
    try:
        if not (path / CONFIG).is_file() or (path / CONFIG).stat().st_size > LARGEST:
            return False
        stored = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(stored, dict):
        return False
    return str(stored.get("schema", "")).startswith("lsg.run/") or stored.keys() >= BEFORE_SCHEMA


def check_free(path: Path, *, force: bool = False, resume: bool = False) -> None:
    """See, before anything costly is done, that a run may use ``path``. Nothing is left there.

    Raises:
        RunInUseError, ConfigError, StorageError: as :class:`RunDir`.
    """
    if resume and path.is_file():
        raise ConfigError(f"--resume {path}: found a file, expected a run directory", hint=f"Try --resume {path.parent}.")
    if path.exists() and not path.is_dir():
        raise files.storage_error(NotADirectoryError(20, "a file of that name exists"), path)
    has_run = is_run(path)
    if resume and not has_run:
        raise ConfigError(
            f"--resume {path}: found no config.json of `lsg train` there, expected the directory of a run",
            hint="`ls runs/*/*` lists runs.",
        )
    if has_run and not (force or resume):
        raise RunInUseError(
            f"{path}: holds a run already, expected a new or empty directory",
            hint="Go on with it (--resume), replace it (--force), or choose another --out.",
        )
    strangers = (p for p in path.iterdir() if p.name != LOCK and not p.name.startswith(files.PARTIAL)) if path.is_dir() else ()
    if not has_run and any(strangers):
        raise RunInUseError(
            f"{path}: is not empty and holds no run, expected a new or empty directory", hint="Choose another --out."
        )
    nearest = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise files.storage_error(NotADirectoryError(20, f"{nearest} is not a folder"), path)
    probe = nearest / f"{files.PARTIAL}{secrets.token_hex(4)}"
    try:
        probe.touch()
        probe.unlink(missing_ok=True)  # another process may have tidied it away
    except OSError as error:
        raise files.storage_error(error, path) from error


def read_config(path: Path) -> RunConfig:
    """The settings of the run in a directory.

    Raises:
        ConfigError: there is no readable config.json.
    """
    try:
        stored = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        return from_dict(stored["settings"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{path / CONFIG}: cannot be read as a run's configuration: {error}") from error


def read_facts(path: Path) -> dict[str, Any]:
    """What config.json records besides the settings: see :func:`lsgcli.run.facts`. The run has to be readable."""
    facts: dict[str, Any] = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    return facts


def read_precision(path: Path) -> str:
    """The precision that the run in a directory computes in, which it keeps wherever it goes on.

    Raises:
        ConfigError: as :func:`read_config`.
    """
    settings = read_config(path)
    return str(read_facts(path).get("precision", {}).get("used", settings.precision))


def read_sources(path: Path) -> dict[str, str]:
    """SHA-256 of the checkpoints that the run in a directory started from, by the setting that named each.

    Raises:
        ConfigError: as :func:`read_config`.
    """
    read_config(path)
    return {name: str(source["sha256"]) for name, source in read_facts(path).get("sources", {}).items()}


def read_result(path: Path) -> dict[str, Any] | None:
    """The final record of the run in a directory; None where it has not finished.

    A run that diverged has finished too: its ``accuracy`` is None, and ``diverged`` says what happened.
    """
    try:
        record = json.loads((path / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "accuracy" in record else None


def accuracy_on_test(checkpoint: Path) -> float | None:
    """What the finished run that a checkpoint lies in measured of it on the test part; None where nothing says so."""
    names = {BEST: "test_accuracy_best", LAST: "test_accuracy_last"}
    found = (read_result(checkpoint.parent) or {}).get(names.get(checkpoint.name, ""))
    return found if isinstance(found, float) else None


def in_use(path: Path) -> bool:
    """Whether a process is writing the run in a directory."""
    try:
        with open(path / LOCK) as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no lock
        return False
    return False


def _lock(path: Path) -> IO[str]:
    """Create the directory and take its lock."""
    for attempt in range(ATTEMPTS):
        time.sleep(0.02 * (attempt > 0))
        files.make_folder(path)
        try:
            stream = open(path / LOCK, "w")  # noqa: SIM115 (held open as long as the run)
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            continue
        except OSError as error:
            raise files.storage_error(error, path) from error
        if _is_at(stream, path / LOCK):
            return stream
        stream.close()  # its holder removed it just before: this locks nothing
    raise RunInUseError(f"{path}: another process is writing this run", hint="Wait for it, stop it, or choose another --out.")


def _is_at(stream: IO[str], path: Path) -> bool:
    """Whether the open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except OSError:
        return False


def write_config(run: RunDir, config: RunConfig, facts: dict[str, Any]) -> None:
    """Write config.json: the settings, and facts about the program, machine and data that they met."""
    files.write_json(run.config_file, {**facts, "schema": SCHEMA, "settings": config.to_dict()})
