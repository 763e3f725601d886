"""The trials of ``lsg tune``, on Optuna: their settings, their results, and the best of them.

<root>/study.db         the study, which processes share; --storage names another database
<root>/trials/<n>/      the run directory of a trial, which neither reads nor evaluates the test part
<root>/best.toml        the best settings, for `lsg train --config`
"""

import contextlib
import datetime
import itertools
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsgcli.config.resolve import as_toml
from lsgcli.config.run import check_equal, from_dict
from lsgcli.errors import ConfigError, OutOfMemoryError, RunInUseError, StorageError, install_hint
from lsgcli.runs import checks
from lsgcli.store.rundir import DATA, check_links, is_run, read_facts, read_metrics
from lsgcli.sweeps.cells import check_data, check_same
from lsgcli.sweeps.jobs import FOLDER, CellState
from lsgcli.sweeps.plan import Cell
from lsgcli.sweeps.schedule import Strategy
from lsgcli.sweeps.search import TRIALS, Search
from lsgcli.system import files
from lsgcli.system.version import __version__

try:
    import optuna
    from optuna.trial import TrialState
    from sqlalchemy import NullPool
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError
except ImportError as error:
    raise ConfigError(f"optuna cannot be imported: {error}", hint=install_hint("tune")) from error

STUDY, BEST = "study.db", "best.toml"
BEGAN = "began"  # attribute of a study: the settings of its first finished run, and the facts about its data
BEAT, GRACE = 5, 60  # seconds: the trial of a process without a heartbeat for GRACE is repeated by another process
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
TAKEN = (*DONE, TrialState.RUNNING)


def open_study(search: Search, root: Path, storage: str | None, name: str | None, prune: bool) -> optuna.Study:
    """The study in a database, created if it does not exist.

    Args:
        root: directory of the trials.
        storage: URL of a database, or path of an SQLite file. Default: a file in ``root``.
        name: name of the study. Default: the name of ``root``.
        prune: whether trials are pruned.

    Raises:
        RunInUseError: ``root`` contains other files, or the study has other settings or data.
        ConfigError: the URL is not valid, the driver of the database is not installed, another version of Optuna wrote it, its path contains a ``?``, or
            ``root`` is in the folder of the data.
        StorageError: the database cannot be opened, or is a symbolic link.
    """
    checks.check_place(root, search.config({}))
    location = storage or str(root / STUDY)
    if "://" not in location and "?" in location:
        raise ConfigError(
            f"{location}: found a ?, which the URL of an SQLite file cannot contain", hint="Choose another --out or --storage."
        )
    file = Path(location.removeprefix("sqlite:///"))
    for path in (file, root / BEST):  # SQLite follows links
        files.check_no_link(path)
    file = file.resolve()
    own = (STUDY, file.name) if file.parent == root.resolve() else (STUDY,)  # SQLite appends suffixes to these names
    others = [
        path.name for path in root.glob("[!.]*") if path.name not in (TRIALS, BEST, FOLDER) and not path.name.startswith(own)
    ]
    if others:
        raise RunInUseError(
            f"{root}: found {min(others)}, expected a new or empty directory, or that of a study", hint="Choose another --out."
        )
    # Optuna formats the URL as a template.
    url = location if "://" in location else "sqlite:///" + location.replace("{", "{{").replace("}", "}}")
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
        except ValueError:  # of sqlalchemy, which quotes parts of the URL, such as its password
            raise ConfigError("--storage: found a URL that is not valid, expected such as postgresql://HOST/DATABASE") from None
        except (ArgumentError, ImportError, RuntimeError) as error:  # no such database, no driver, a schema of another version
            raise ConfigError(f"--storage: the database cannot be opened: {error.__cause__ or error}") from error
        study = optuna.create_study(
            storage=database,
            study_name=name or root.resolve().name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner(),
        )
        wanted, stored = search.identity(), study.user_attrs.get("search")
        if stored is None and not study.trials:
            study.set_user_attr("search", wanted)
        else:
            check_equal(f"study {study.study_name}", stored or {}, wanted, RunInUseError, "Choose another --out or --study.")
        began = study.user_attrs.get(BEGAN)
    if began is not None:  # its runs may be in another directory
        config = from_dict(began["settings"]).replace(data_dir=search.config({}).data_dir)
        check_data([Cell(0, config, Path(f"study {study.study_name}"), test=False)], began)
    return study


@contextlib.contextmanager
def _database() -> Iterator[None]:
    """Convert errors of the database, and suppress warnings that parts of Optuna are experimental."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.filterwarnings("ignore", "Heartbeat of storage")  # it concerns Study.optimize, which Trials does not use
            yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StorageError(
            f"the study cannot be read or written: {reason}", hint="Check --storage, its permissions, and the free space."
        ) from error


def _repeat(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Queue the trial of a killed or stopped process again, with the same values and directory."""
    optuna.storages.RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(study, trial)


def directories(trials: Sequence[optuna.trial.FrozenTrial]) -> list[int]:
    """The number of the run directory of each trial; a repeated trial keeps the directory of its first attempt."""
    new, numbers = itertools.count(), list[int]()
    for trial in trials:
        first = optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
        numbers.append(next(new) if first is None else numbers[first])
    return numbers


class Trials(Strategy):
    """The trials of a study, which several processes may share. Optuna chooses their values and prunes them.

    Args:
        trials: number of trials of the study, over all processes.
    """

    def __init__(self, study: optuna.Study, search: Search, root: Path, trials: int):
        super().__init__(root, ())
        self.study, self.search, self.trials = study, search, trials
        self._running: dict[Cell, optuna.Trial] = {}  # of this process

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Context in which trials run. On exit, unfinished trials are queued again for the next process.

        Raises:
            StorageError: the database cannot be read or written.
        """
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=(ended,), daemon=True)
        with _database():
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()
                for trial in self._running.values():
                    _repeat(self.study, self.study.get_trials(deepcopy=False)[trial.number])
                    self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def next(self, slots: int) -> Cell | None:
        if len(self._running) >= slots:
            return None
        optuna.storages.fail_stale_trials(self.study)
        self._fail_unstarted()
        if self._taken() >= self.trials:
            return None
        trial = self.study.ask()
        self._record_heartbeat(trial)
        trials = self.study.get_trials(deepcopy=False)
        if self._taken(trial.number) >= self.trials:  # another process started the last trial at the same time
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        number = directories(trials)[trial.number]
        seed = np.random.SeedSequence([self.search.config({}).seed, number])
        self.study.sampler = optuna.samplers.TPESampler(seed=int(seed.generate_state(1)[0]), multivariate=False)
        config = self.search.suggest(trial)
        label = f"trial {number}: {values_text(trial.params)}"
        cell = Cell(number, config, self.root / TRIALS / str(number), test=False, label=label)
        repeated = cell in self._running  # this process was suspended for longer than GRACE
        self._running[cell] = trial
        check_links(cell.path, self.root)
        check_same(cell)
        return None if repeated else cell

    def prunes(self, cell: Cell, now: CellState) -> bool:
        trial = self._running[cell]
        reported = len(self.study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        if now.epochs <= reported:
            return False
        try:
            for epoch in read_metrics(cell.path)[reported:]:
                trial.report(epoch["val_accuracy"], epoch["epoch"])
                if epoch["epoch"] + 1 < cell.config.epochs and trial.should_prune():
                    return True
        except optuna.exceptions.UpdateFinishedTrialError:  # another process repeats it
            return True
        return False

    def excuses(self, status: int | None) -> bool:
        return status in (ConfigError.exit_code, OutOfMemoryError.exit_code)

    def ended(self, cell: Cell, now: CellState) -> None:
        trial = self._running.pop(cell)
        finished = now.kind == "done" and not now.message
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # another process repeats it
            if now.message:
                trial.set_user_attr("problem", now.message)
            if finished and BEGAN not in self.study.user_attrs and is_run(cell.path):
                facts: Mapping[str, Any] = read_facts(cell.path)
                self.study.set_user_attr(BEGAN, {name: facts.get(name) for name in ("settings", *DATA)})
            # The sampler avoids the values of a pruned trial.
            self.study.tell(
                trial,
                now.accuracy if finished else None,
                state=TrialState.COMPLETE if finished else TrialState.PRUNED,
                skip_if_finished=True,
            )

    def progress(self) -> str:
        done = sum(trial.state in DONE for trial in self.study.get_trials(deepcopy=False))
        return f"{done} of {self.trials} trials"

    def is_done(self) -> bool:
        return self._taken() >= self.trials and not self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _taken(self, before: int | None = None) -> int:
        """Trials, with numbers below ``before``, that are done or running."""
        return sum(trial.state in TAKEN for trial in self.study.get_trials(deepcopy=False)[:before])

    def _fail_unstarted(self) -> None:
        """Fail trials whose process was killed before its first heartbeat; Optuna leaves them running."""
        limit = datetime.datetime.now() - datetime.timedelta(seconds=GRACE)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not trial.params and trial.datetime_start is not None and trial.datetime_start < limit:
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def _record_heartbeat(self, trial: optuna.Trial) -> None:
        self.study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(BEAT):
            with contextlib.suppress(SQLAlchemyError, optuna.exceptions.StorageInternalError):  # the main thread reports it
                for trial in list(self._running.values()):
                    self._record_heartbeat(trial)


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
    records = [_record(trial, n, root) for trial, n in zip(trials, numbers, strict=True) if trial.state in DONE]
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
