"""A search for the settings with the highest validation accuracy: ``lsg tune``, on Optuna.

<root>/study.db         the study, which processes share; --storage names another database
<root>/trials/<n>/      the run directory of a trial, which neither reads nor evaluates the test part
<root>/best.toml        the best settings, for `lsg train --config`
"""

import contextlib
import datetime
import hashlib
import itertools
import json
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lsgcli.config.resolve import as_toml, assignments, of_number, parse_all, resolve_rows
from lsgcli.config.run import FIELDS, RULES, RunConfig, base_type, check_equal, option_name, without_effect
from lsgcli.errors import ConfigError, DivergedError, RunInUseError, Stopped, StorageError, install_hint
from lsgcli.runs import run
from lsgcli.store.rundir import RUNS, check_links, in_use, is_run, read_result
from lsgcli.system import files
from lsgcli.system.memory import is_out_of_memory
from lsgcli.system.version import __version__
from lsgcli.training.loop import Emit
from lsgcli.training.signals import StopRequest

try:
    import optuna
    from optuna.trial import TrialState
    from sqlalchemy import NullPool
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise ConfigError(f"optuna cannot be imported: {error}", hint=install_hint("tune")) from error

STUDY, TRIALS, BEST = "study.db", "trials", "best.toml"
MOST = 10_000  # combinations of listed values
BEAT, GRACE = 5, 60  # seconds: the trial of a process without a sign of life for GRACE is repeated by another
PAUSE = 1.0  # seconds between checks of trials that other processes are running
TAKEN = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
FORM = "KEY=LOW:HIGH, KEY=log:LOW:HIGH or KEY=VALUE,VALUE,..."
SAME_SAMPLES = "which changes what the accuracy is measured on"
REFUSED = dict.fromkeys(("dataset", "split", "split_seed", "val_fraction", "sensor", "skip_bad"), SAME_SAMPLES)
REFUSED["seed"] = "expected another setting; use --seed, and `lsg ablate` to compare seeds"

log = logging.getLogger("lsg")


@dataclass(frozen=True)
class Axis:
    """A setting to search.

    Attributes:
        text: as given.
        values: all values, or the two ends of a range, which are included.
        scale: ``linear`` or ``log`` for a range; empty for a list of values.
    """

    text: str
    values: tuple[Any, ...]
    scale: str = ""

    def suggest(self, trial: optuna.Trial, name: str) -> Any:
        """The value of a trial."""
        if not self.scale:
            return trial.suggest_categorical(name, self.values)
        low, high = self.values
        suggest = trial.suggest_int if base_type(name) is int else trial.suggest_float
        return suggest(name, low, high, log=self.scale == "log")


@dataclass(frozen=True)
class Search:
    """What to search.

    Attributes:
        axes: by setting; settings that decide whether others have an effect come first.
        configs: complete settings for each combination of the listed values, with the high end of each range.
    """

    axes: Mapping[str, Axis]
    configs: Mapping[tuple[Any, ...], RunConfig]

    def config(self, chosen: Mapping[str, Any]) -> RunConfig:
        """Complete settings with the ``chosen`` values, and the first value of every other axis."""
        listed = tuple(chosen.get(name, axis.values[0]) for name, axis in self.axes.items() if not axis.scale)
        return self.configs[listed].replace(**{name: value for name, value in chosen.items() if self.axes[name].scale})

    def suggest(self, trial: optuna.Trial) -> RunConfig:
        """The settings of a trial. Axes without effect, given the values already suggested, are not searched."""
        chosen: dict[str, Any] = {}
        for name, axis in self.axes.items():
            if not without_effect({name: None}, [self.config(chosen)]):
                chosen[name] = axis.suggest(trial, name)
        return self.config(chosen)

    def identity(self) -> dict[str, Any]:
        """The axes, and the other settings that affect results, as JSON types; a list if they differ between combinations."""
        rows = [run.identity(config) for config in self.configs.values()]
        found: dict[str, Any] = {}
        for name in rows[0]:
            values = list(dict.fromkeys(row[name] for row in rows))
            found[name] = self.axes[name].text if name in self.axes else values if len(values) > 1 else values[0]
        return found

    def folder(self) -> Path:
        """Default directory: below ``runs/``, determined by the settings that differ from their defaults."""
        config = self.config({})
        changed = {name: value for name, value in self.identity().items() if value != FIELDS[name].default}
        digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
        return RUNS / f"tune-{config.dataset.replace(':', '-')}-{config.arch}-{digest}"


def plan(settings: Mapping[str, Any], texts: Sequence[str], file: Path | None) -> Search:
    """The search that the arguments of ``lsg tune`` describe.

    Args:
        settings: shared by all trials.
        texts: axes such as ``lr=log:1e-3:0.3``, ``width=0.5:2`` or ``method=lsg,none``.
        file: TOML file with further settings.

    Raises:
        ConfigError: with one line for each invalid axis or setting.
        CheckpointError: a checkpoint that a run starts from cannot be read.
    """
    found, problems = assignments("--search", texts, FORM, REFUSED)
    problems += [f"{option_name(name)}: cannot be given, because --search varies it" for name in found if name in settings]
    axes = {}
    for name in sorted(found, key=lambda name: (name in RULES, [*FIELDS].index(name))):
        axes[name], invalid = _axis(name, found[name])
        problems += invalid
    if problems:
        raise ConfigError("\n".join(problems))
    listed = {name: axis.values for name, axis in axes.items() if not axis.scale}
    if (count := math.prod(map(len, listed.values()))) > MOST:
        raise ConfigError(f"--search: found {count:,} combinations of listed values, expected at most {MOST:,}")
    # A setting is kept if it has an effect at one end of the ranges at least.
    ends = [{name: axis.values[end] for name, axis in axes.items() if axis.scale} for end in (0, -1)]
    combinations = list(itertools.product(*listed.values()))
    rows = [dict(zip(listed, values, strict=True)) | end for end in ends for values in combinations]
    configs = resolve_rows(settings, rows, file=file, option="--search")
    if configs[0].val_fraction == 0:
        raise ConfigError(
            "val_fraction: found 0, expected a fraction above 0, because trials are compared on the validation split",
            hint="Add --val-fraction 0.1. The test part is not used.",
        )
    for config in dict.fromkeys(configs[: len(combinations)]):
        run.check(config)
    return Search(axes, dict(zip(combinations, configs[len(combinations) :], strict=True)))


def _axis(name: str, text: str) -> tuple[Axis, list[str]]:
    """An axis, and a line for each problem."""
    is_range = base_type(name) in (int, float) and ":" in text and "," not in text
    scale = ("log" if text.startswith("log:") else "linear") if is_range else ""
    values, problems = parse_all(name, text.removeprefix("log:").split(":") if is_range else text.split(","))
    axis, expected = Axis(text, values, scale), ""
    if problems:
        return axis, of_number("--search", name, text, FORM) or problems
    if is_range and (len(values) != 2 or values[0] >= values[1]):
        expected = "LOW:HIGH with LOW below HIGH"
    elif is_range and FIELDS[name].metadata["check"]:
        expected = "a list of values, because not every number in between is valid"
    elif scale == "log" and values[0] <= 0:
        expected = "LOW above 0 on a logarithmic scale"
    elif not is_range and len(set(values)) < max(2, len(values)):
        expected = "several different values, or a range such as 1:2"
    return axis, [f"--search: found {name}={text}, expected {expected}"] if expected else []


def open_study(search: Search, root: Path, storage: str | None, name: str | None, prune: bool) -> optuna.Study:
    """The study in a database, created if it does not exist.

    Args:
        root: directory of the trials.
        storage: URL of a database, or path of an SQLite file. Default: a file in ``root``.
        name: of the study. Default: that of ``root``.
        prune: whether trials are pruned.

    Raises:
        RunInUseError: ``root`` contains other files, or the study has other settings.
        ConfigError: the driver of the database is not installed, another version of Optuna wrote it, its path contains a ``?``, or
            ``root`` is in the folder of the data.
        StorageError: the database cannot be opened, or is a symbolic link.
    """
    run.check_place(root, search.config({}))
    place = storage or str(root / STUDY)
    if "://" not in place and "?" in place:
        raise ConfigError(
            f"{place}: found a ?, which the URL of an SQLite file cannot contain", hint="Choose another --out or --storage."
        )
    file = Path(place.removeprefix("sqlite:///"))
    for path in (file, root / BEST):  # SQLite would follow one
        files.check_no_link(path)
    file = file.resolve()
    own = (STUDY, file.name) if file.parent == root.resolve() else (STUDY,)  # SQLite adds to these names
    others = [path.name for path in root.glob("[!.]*") if path.name not in (TRIALS, BEST) and not path.name.startswith(own)]
    if others:
        raise RunInUseError(
            f"{root}: found {min(others)}, expected a new or empty directory, or that of a study", hint="Choose another --out."
        )
    url = place if "://" in place else "sqlite:///" + place.replace("{", "{{").replace("}", "}}")  # a template of Optuna
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    waiting = f"{root}: waiting for another process that opens the study"
    with files.making_folder(root), files.locked(root / ".lock", waiting), _database():
        try:
            database = optuna.storages.RDBStorage(
                url,
                # Without a pool, a connection to a file is closed after each use.
                {"connect_args": {"timeout": GRACE}, "poolclass": NullPool} if url.startswith("sqlite:") else None,
                heartbeat_interval=BEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=_repeat,
            )
        except (ImportError, RuntimeError) as error:  # no driver, or a schema of another version
            raise ConfigError(f"--storage: the database cannot be opened: {error.__cause__ or error}") from error
        study = optuna.create_study(
            storage=database,
            study_name=name or root.resolve().name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner(),
        )
        wanted, there = search.identity(), study.user_attrs.get("search")
        if there is None and not study.trials:
            study.set_user_attr("search", wanted)
        else:
            check_equal(f"study {study.study_name}", there or {}, wanted, RunInUseError, "Choose another --out or --study.")
    return study


@contextlib.contextmanager
def _database() -> Iterator[None]:
    """Convert errors of the database, and ignore warnings that parts of Optuna are experimental."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StorageError(
            f"the study cannot be read or written: {reason}", hint="Check --storage, its permissions, and the free space."
        ) from error


def _repeat(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Queue a trial of a killed or stopped process again; it keeps its values, and its directory."""
    optuna.storages.RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(study, trial)


def directories(trials: Sequence[optuna.trial.FrozenTrial]) -> list[int]:
    """The number of the run directory of each trial; a repeated trial has that of its first attempt."""
    new, numbers = itertools.count(), list[int]()
    for trial in trials:
        first = optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
        numbers.append(next(new) if first is None else numbers[first])
    return numbers


class Surplus(Exception):
    """Another process started the last trial at the same time."""


@dataclass(frozen=True)
class Worker:
    """A process that runs trials of a study, possibly one of several.

    Attributes:
        trials: number of trials of the study, in all processes.
        display: opens a display of a run, which is called with its records.
        stop: checked between steps.
        outlets: where a run reports.
    """

    study: optuna.Study
    search: Search
    root: Path
    trials: int
    display: Callable[[], AbstractContextManager[Emit]]
    stop: StopRequest
    outlets: run.Outlets = run.RECORDS_ONLY

    def complete(self) -> None:
        """Run trials until the study has all of them, and wait for those of other processes, or repeat them if they were killed.

        Raises:
            Stopped: a signal was received; the trial is continued when the command is repeated.
            StorageError: the database cannot be written.
        """
        announced = False
        with _database():
            while True:
                self._check_stop()
                optuna.storages.fail_stale_trials(self.study)
                self._fail_unborn()
                states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
                if sum(state in TAKEN for state in states) < self.trials:
                    self._run_trial()
                    continue
                running = states.count(TrialState.RUNNING)
                if not running:
                    return
                if not announced:
                    log.info(
                        "waiting for trials of other processes: %d; those of a killed one are repeated in %d s", running, GRACE
                    )
                    announced = True
                self._pause()

    def _fail_unborn(self) -> None:
        """Fail trials of processes that were killed before the first sign of life, which Optuna does not."""
        limit = datetime.datetime.now() - datetime.timedelta(seconds=GRACE)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not trial.params and trial.datetime_start is not None and trial.datetime_start < limit:
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def _run_trial(self) -> None:
        try:
            self.study.optimize(self._objective, n_trials=1, catch=(Surplus,))
        except ValueError as error:
            # This process was suspended for longer than GRACE, and another one repeats the trial.
            if "Cannot tell a FAIL trial" not in str(error):
                raise

    def _check_stop(self) -> None:
        if self.stop:
            raise Stopped(f"stopped by {self.stop.signal_name}")

    def _pause(self) -> None:
        self._check_stop()
        time.sleep(PAUSE)

    def _objective(self, trial: optuna.Trial) -> float:
        """Accuracy of the best epoch on the validation split."""
        trials = self.study.get_trials(deepcopy=False)
        if sum(other.state in TAKEN for other in trials[: trial.number]) >= self.trials:
            raise Surplus
        number = directories(trials)[trial.number]
        seed = np.random.SeedSequence([self.search.config({}).seed, number])
        self.study.sampler = optuna.samplers.TPESampler(seed=int(seed.generate_state(1)[0]), multivariate=False)
        config = self.search.suggest(trial)
        try:
            return self._train(trial, config, self.root / TRIALS / str(number))
        except optuna.TrialPruned:
            log.info("trial %d: pruned", number)
            raise
        except optuna.exceptions.UpdateFinishedTrialError:  # another process repeats it; see _run_trial
            raise
        except BaseException as error:
            if not (isinstance(error, DivergedError | ConfigError) or is_out_of_memory(error)):  # not due to its values
                _repeat(self.study, self.study.get_trials(deepcopy=False)[trial.number])
                raise
            problem = (str(error) or "out of memory").splitlines()[0]
            log.warning("trial %d failed: %s", number, problem)
            trial.set_user_attr("problem", problem)
            raise optuna.TrialPruned from error  # the sampler avoids its values

    def _train(self, trial: optuna.Trial, config: RunConfig, path: Path) -> float:
        while in_use(path):  # by a process that is alive, but was suspended for longer than GRACE
            self._pause()
        files.check_no_link(path, self.root)
        check_links(path)
        end = read_result(path)
        if is_run(path):
            run.check_same(path, config)
        if end is None:
            with self.display() as show:
                show({"event": "trial", "trial": path.name, "settings": values_text(trial.params)})

                def emit(record: dict[str, Any]) -> None:
                    show(record)
                    if record["event"] == "epoch":
                        trial.report(record["val_accuracy"], record["epoch"])
                        if record["epoch"] + 1 < config.epochs and trial.should_prune():
                            raise optuna.TrialPruned

                end = run.train(
                    config,
                    path,
                    emit,
                    self.stop,
                    existing="resume" if is_run(path) else "refuse",
                    splits=("train",),
                    outlets=self.outlets,
                )
        assert end is not None  # in the only process of the run
        if "diverged" in end:
            raise DivergedError(end["diverged"])
        return float(end["best_accuracy"])


def values_text(params: Mapping[str, Any]) -> str:
    """Values of axes, such as ``method=none width=0.7123``."""
    return " ".join(f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items())


def conclude(study: optuna.Study, search: Search, root: Path) -> dict[str, Any]:
    """Write the best settings to ``best.toml``.

    Returns:
        JSON types: ``study``, ``config`` (path of the file), the ``best`` trial, and all ``trials``, best first. A trial has its
        number ``trial``, ``state`` (``finished``, ``pruned`` or ``failed``), ``val_accuracy`` of its best epoch, ``epochs``,
        ``settings`` (values of the axes), ``run`` (its directory) and ``problem``.

    Raises:
        ConfigError: no trial was trained to its end.
        StorageError: the file or the database cannot be written or read.
    """
    with _database():
        trials = study.get_trials(deepcopy=False)
        numbers = directories(trials)
    done = (TrialState.COMPLETE, TrialState.PRUNED)
    records = [_record(trial, n, root) for trial, n in zip(trials, numbers, strict=True) if trial.state in done]
    records.sort(key=lambda record: (record["state"] != "finished", -(record["val_accuracy"] or 0), record["trial"]))
    if not records or records[0]["state"] != "finished":
        problem = next((f": {record['problem']}" for record in records if record["problem"]), "")
        raise ConfigError(f"found no trial that was trained to its end{problem}", hint="Search other values.")
    best, file = records[0], root / BEST
    head = (
        f"# lsg {__version__} tune: trial {best['trial']} of the study {study.study_name}, the best of {len(records)}.\n"
        f"# Accuracy of the best epoch on the validation split: {best['val_accuracy']:.6f}\n"
    )
    files.make_folder(root)
    files.write_text(file, head + as_toml(search.config(best["settings"])))
    return {"study": study.study_name, "config": str(file), "best": best, "trials": records}


def _record(trial: optuna.trial.FrozenTrial, number: int, root: Path) -> dict[str, Any]:
    problem = trial.user_attrs.get("problem")
    finished = trial.state is TrialState.COMPLETE
    return {
        "trial": number,
        "state": "finished" if finished else "failed" if problem else "pruned",
        "val_accuracy": trial.value if finished else max(trial.intermediate_values.values(), default=None),
        "epochs": max(trial.intermediate_values, default=-1) + 1,
        "settings": trial.params,
        "run": str(root / TRIALS / str(number)),
        "problem": problem,
    }
