"""Run directories: settings, checkpoints and results of a run.

runs/<dataset>-<arch>-<method>/<UTC time>-s<seed>-<tail>/
    config.json            settings, versions, command line, device
    metrics.jsonl          one line per epoch
    gradient-flow.jsonl    one line per epoch: beta, alpha, coverage, firing rate, gradient norm of each layer
    best.safetensors       the best epoch, on the split named in ``metrics.jsonl``
    last.safetensors       the last epoch, with the state required to resume
    gradient-flow.json     the full gradient-flow record of the final network
    report.html            report of the run, rewritten while it trains
    result.json            accuracies of the finished run, or the reason for divergence
    diverged.safetensors   the network of the batch that diverged
    logs/                  files of the loggers of --log
"""

import contextlib
import datetime
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Required, TypedDict

from lsgcli.config.fields import Values
from lsgcli.config.run import CONFIG, RunConfig, from_dict
from lsgcli.errors import CheckpointError, ConfigError, LsgError, RunInUseError, StorageError, counted, log
from lsgcli.system import files, schema
from lsgcli.system.schema import Record

Number = float | None
Text = str | None
RUNS = Path("runs")
METRICS = "metrics.jsonl"
GRADIENT_FLOW = "gradient-flow.jsonl"
FULL_FLOW = "gradient-flow.json"
BEST = "best.safetensors"
LAST = "last.safetensors"
REPORT = "report.html"
RESULT = "result.json"
DIVERGED = "diverged.safetensors"
LOCK = ".lock"
LOGS = "logs"
OF_SAFETENSORS = ".tmp??????"  # temporary files of save_file, which a killed process leaves
FILES = frozenset({CONFIG, METRICS, GRADIENT_FLOW, FULL_FLOW, BEST, LAST, DIVERGED, REPORT, RESULT, LOCK})
SCHEMA = "lsg.run/1"


class InitialCheckpoint(TypedDict):
    """A checkpoint that a run was initialised from."""

    sha256: str


class Processes(TypedDict):
    """The number of processes of a run from an epoch on."""

    from_epoch: int
    processes: int


class DataFiles(TypedDict):
    """Digests of the sizes, and of sizes and times, of the files of the data."""

    sizes: str
    stamps: str


class Facts(TypedDict, total=False):
    """The content of config.json, with the facts from :func:`lsgcli.runs.run.facts`."""

    schema: str
    settings: Record
    data_folder: Text
    classes: list[str]
    samples: dict[str, int]
    started: str
    precision: dict[str, Text]
    sources: dict[str, InitialCheckpoint]
    data_digest: str
    data_files: DataFiles | None
    extended: list[Record]
    processes: list[Processes]
    plugins: dict[str, str] | None  # path of each file of --plugin -> SHA-256


class Result(TypedDict, total=False):
    """The content of result.json."""

    accuracy: Required[Number]  # in the precision of the training, as those that follow; ..._fp32: in fp32
    accuracy_fp32: Number
    run: str
    diverged: str
    checkpoint: str
    test_accuracy_last: Number
    test_accuracy_last_fp32: Number
    test_accuracy_best: Number
    test_accuracy_best_fp32: Number
    best_test_accuracy: float  # of all epochs, if each was evaluated on the test part
    inflation: float  # best_test_accuracy - accuracy
    top5_accuracy: float
    precision: float
    recall: float
    f1: float
    best_epoch: int
    best_chosen_on: Literal["val", "test"]
    best_accuracy: float
    epochs_planned: int
    epochs_done: int


class Line(TypedDict, total=False):
    """Fields common to the lines of metrics.jsonl and gradient-flow.jsonl."""

    epoch: Required[int]
    event: str


class Epoch(Line, total=False):
    """A line of metrics.jsonl."""

    seconds: float
    train_loss: Number
    train_accuracy: Number
    val_loss: Number
    val_accuracy: Number
    test_loss: Number
    test_accuracy: Number
    val_f1: Number
    test_f1: Number
    firing_rate: Number
    lr: Number
    data_wait: Number


def new_path(config: RunConfig) -> Path:
    """A unique path below ``runs/``."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    data = config.dataset.replace(":", "-")
    return RUNS / f"{data}-{config.arch}-{config.method}" / f"{now}-s{config.seed}-{os.urandom(3).hex()}"


class RunFiles:
    """Paths of the files of a run, which may be one that is ``resumed``."""

    def __init__(self, path: Path, *, resumed: bool = False):
        self.path = path
        self.resumed = resumed
        self.config_file = path / CONFIG
        self.metrics_file = path / METRICS
        self.gradient_flow_file = path / GRADIENT_FLOW
        self.best = path / BEST
        self.last = path / LAST
        self.report = path / REPORT
        self.result = path / RESULT


class RunDir(RunFiles, contextlib.AbstractContextManager["RunDir"]):
    """An open run directory, locked against other processes until the block ends, and then removed if it is empty.

    Args:
        path: of the directory.
        force: allow an existing run; :meth:`clear` removes it.
        resume: open an existing run to resume it.

    Raises:
        RunInUseError: another process uses the directory, or it contains a run and neither ``force`` nor ``resume`` is given.
        ConfigError: there is no run to resume.
        StorageError: it cannot be created or written, or one of its files is a symbolic link.
    """

    def __init__(self, path: Path, *, force: bool = False, resume: bool = False):
        super().__init__(path, resumed=resume)
        check_free(path, force=force, resume=resume)
        with contextlib.ExitStack() as stack:
            stack.enter_context(files.making_folder(path))
            hint = "Wait for it, stop it, or choose another --out."
            stack.enter_context(files.locked(path / LOCK, RunInUseError(f"{path}: another process is writing this run", hint)))
            files.remove_partial(path, OF_SAFETENSORS)
            self._held = stack.pop_all()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        gone = isinstance(error, LsgError | OSError) and not self.path.is_dir()
        self._held.close()  # removes the directory if it is empty
        if gone:
            raise StorageError(
                f"{self.path}: was moved or deleted during the run",
                "A moved run can be resumed where it is now: lsg train --resume RUN",
            ) from error

    def trim(self, epochs: int) -> None:
        """Remove records of epochs from ``epochs`` on, written by a killed process after its last checkpoint."""
        for file in (self.metrics_file, self.gradient_flow_file):
            lines = schema.read_lines(file, Line)
            kept = [line for line in lines if line["epoch"] < epochs and line.get("event") != "diverged"]
            if len(kept) < epochs:
                log.warning(
                    "%s: found records of %s, expected %d; reports lack the others", file, counted(len(kept), "epoch"), epochs
                )
            if file.exists():
                files.write_text(file, "".join(files.json_text(line) + "\n" for line in kept))

    def clear(self) -> None:
        """Remove the files of an earlier run. Call it only when the new run is about to start."""
        for name in FILES - {LOCK}:
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / LOGS, ignore_errors=True)


def is_run(path: Path) -> bool:
    """Whether a directory contains a run, that is, a ``config.json`` written by any version of `lsg train`."""
    return facts_of_run(path) is not None


def facts_of_run(path: Path) -> Facts | None:
    """The content of config.json of the run in a directory; None if there is no run, or the file cannot be read."""
    try:
        facts = read_facts(path)
    except ConfigError:
        return None
    return facts if is_of_run(facts) else None


def is_of_run(facts: Facts) -> bool:
    """Whether the content of a ``config.json`` is that of a run, rather than of another program."""
    return facts.get("schema", "").startswith("lsg.run/")


def folders_with_config(folder: Path) -> list[Path]:
    """The folders in or below a folder, at any depth, that contain a ``config.json``, which may be of another program."""
    return [at for at, _, names in files.walk(folder) if CONFIG in names]


def check_free(path: Path, *, force: bool = False, resume: bool = False) -> None:
    """Check that a run may use ``path``, before any expensive work; raises as :class:`RunDir`. Leaves no files."""
    if resume and path.is_file():
        raise ConfigError(f"--resume {path}: found a file, expected a run directory", f"Try --resume {path.parent}.")
    check_links(path)
    has_run = is_run(path)
    if resume and not has_run:
        raise ConfigError(
            f"--resume {path}: found no config.json written by `lsg train`, expected a run directory",
            "`lsg runs` lists runs.",
        )
    if has_run and not (force or resume):
        raise RunInUseError(
            f"{path}: already contains a run, expected a new or empty directory",
            "Resume it (--resume), replace it (--force), or choose another --out.",
            in_python="Continue it with the same settings, replace it (force=True), or choose another out.",
        )
    # A killed process may have left its lock and partial files.
    if not has_run and any(p.name != LOCK and not p.name.startswith(files.PARTIAL) for p in path.glob("*")):
        raise RunInUseError(f"{path}: is not empty and not a run, expected a new or empty directory", "Choose another --out.")
    nearest = next(p for p in (path, *path.absolute().parents) if p.exists())
    probe = nearest / f"{files.PARTIAL}{os.urandom(4).hex()}"
    try:
        probe.touch()
        probe.unlink(missing_ok=True)  # another process may have removed it
    except OSError as error:
        raise files.storage_error(error, path) from error


def check_links(path: Path, inside: Path | None = None) -> None:
    """Check that no file of the run in ``path`` is a symbolic link, which may lead out of it.

    Args:
        inside: a folder above ``path``; ``path`` and the folders between them must be no links either.

    Raises:
        StorageError: one of them is.
    """
    if inside is not None:
        files.check_no_link(path, inside)
    for file in (*(path / name for name in sorted(FILES | {LOGS})), *path.glob(f"{LOGS}/*")):
        files.check_no_link(file)


def write_config(run: RunDir, config: RunConfig, facts: Record) -> None:
    """Write config.json: the settings, and facts about program, machine and data."""
    from lsgcli.data.datasets.base import dataset_of  # with numpy, which commands that only read runs do without

    folder = None if dataset_of(config).embedded else os.path.abspath(config.data_folder)
    files.write_json(run.config_file, {**facts, "schema": SCHEMA, "data_folder": folder, "settings": config.to_dict()})


def read_facts(path: Path) -> Facts:
    """The content of config.json; a ConfigError if it is not readable."""
    return schema.read(path / CONFIG, Facts, ConfigError)


def read_config(path: Path) -> RunConfig:
    """The settings of the run in a directory; a ConfigError if they are not readable, or invalid in this version."""
    return config_of(path, read_facts(path))


def config_of(path: Path, facts: Facts, others: Values | None = None) -> RunConfig:
    """As :func:`read_config`, from the content of config.json; ``others`` as for :func:`lsgcli.config.run.from_dict`."""
    settings = facts.get("settings")
    if settings is None:
        raise ConfigError(f"{path / CONFIG}: found no settings, expected the configuration of a run")
    try:
        return from_dict(settings, others)
    except ConfigError as error:
        raise ConfigError(f"{path / CONFIG}: {error.message}", error.hint) from error


def tell_not_installed(every: Iterable[Values]) -> None:
    """Warn about settings of several runs as from :func:`lsgcli.config.run.not_installed`."""
    counts = Counter(f"{name} {value!r}" for settings in every for name, value in settings.items())
    for what, number in counts.items():
        log.warning("%s: neither lsg nor an installed plug-in has it: %s", what, counted(number, "run"))


def read_data_folder(path: Path) -> str | None:
    """The folder of the data of the run in a directory, absolute; None if they are embedded, or the run does not record it.

    A run that was moved together with its data, or is of a version that did not record the folder, has ``--data-dir`` as given.
    """
    facts = read_facts(path)
    return data_folder_of(facts, config_of(path, facts))


def data_folder_of(facts: Facts, config: RunConfig) -> str | None:
    """As :func:`read_data_folder`, from the content of config.json and its settings."""
    places = [facts.get("data_folder"), config.data_dir]
    stated = [place for place in places if place is not None]
    return [*filter(os.path.isdir, stated), *stated, None][0]


def read_precision(path: Path) -> str:
    """The precision of the run in a directory, which does not change when it is resumed on other hardware."""
    facts = read_facts(path)
    return precision_of(facts, config_of(path, facts))


def precision_of(facts: Facts, config: RunConfig) -> str:
    """As :func:`read_precision`, from the content of config.json and its settings."""
    return facts.get("precision", {}).get("used") or config.precision


def read_sources(path: Path) -> dict[str, str]:
    """SHA-256 of the checkpoints that a run was initialised from, by setting name."""
    return {name: source["sha256"] for name, source in read_facts(path).get("sources", {}).items()}


def read_result(path: Path) -> Record | None:
    """The final record of the run in a directory; None if it has not finished.

    A diverged run counts as finished: its ``accuracy`` is None, and ``diverged`` contains the reason.

    Raises:
        ConfigError: the file is damaged.
    """
    return dict(schema.read(path / RESULT, Result, ConfigError)) if os.path.lexists(path / RESULT) else None


def read_metrics(path: Path) -> list[Record]:
    """The per-epoch records of the run in a directory; a ConfigError if they are damaged."""
    return schema.read_lines(path / METRICS, Epoch)


def read_progress(path: Path) -> tuple[Values, float | None, float]:
    """What the run in a directory has done so far, from metrics.jsonl, line by line.

    Returns:
        Record of the latest epoch, empty before the first; best validation accuracy of all epochs, None without a validation split;
        seconds of all epochs.

    Raises:
        ConfigError: the file is damaged.
    """
    last: Values = {}
    best = None
    seconds = 0.0
    for last in schema.stream(path / METRICS, Epoch):
        accuracy = last.get("val_accuracy")
        if accuracy is not None and (best is None or accuracy > best):
            best = accuracy
        seconds += last.get("seconds", 0.0)
    return last, best, seconds


def read_last_epoch(path: Path) -> Record:
    """The record of the latest epoch of the run in a directory; empty before the first. As :func:`read_metrics`."""
    lines = schema.read_lines(path / METRICS, Epoch, last=1)
    return lines[0] if lines else {}


def checkpoint_of(path: Path) -> Path:
    """The checkpoint of a run directory: that of its result, or else the last one.

    Raises:
        CheckpointError: the run has no checkpoint yet.
    """
    result = read_result(path) or {}
    names = [LAST, DIVERGED]
    if result.get("diverged"):
        names = [DIVERGED, LAST]
    elif result.get("best_chosen_on") == "val":
        names = [BEST, *names]
    found = next((path / name for name in names if (path / name).exists()), None)
    if found is None:
        raise CheckpointError(f"{path}: found a run without a checkpoint, expected one", "Let it train for an epoch.")
    log.info("%s: its checkpoint %s", path, found.name)
    return found


def accuracy_on_test(checkpoint: Path) -> float | None:
    """Test accuracy of a checkpoint, from the result of its run, in fp32 if that is there; None if not available."""
    name = {BEST: "test_accuracy_best", LAST: "test_accuracy_last"}.get(checkpoint.name, "")
    result = read_result(checkpoint.parent) or {}
    found = result.get(f"{name}_fp32", result.get(name))
    return found if isinstance(found, float) else None


def in_use(path: Path) -> bool:
    """Whether a process is writing the run in a directory."""
    return files.is_locked(path / LOCK)


def state_of(path: Path, result: Values | None) -> str:
    """The state of the run in a directory with this final record: ``running``, ``stopped``, ``diverged`` or ``finished``."""
    if in_use(path):
        return "running"
    return "stopped" if result is None else "diverged" if "diverged" in result else "finished"
