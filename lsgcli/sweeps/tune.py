"""The trials of ``lsg tune``, on Optuna: their settings, their results, and the best of them.

<root>/study.db         the study
<root>/trials/<n>/      the run directory of a trial, which neither reads nor evaluates the test part
<root>/best.toml        the best settings, for `lsg train --config`
"""

import contextlib
import functools
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lsgcli.config.fields import renamed
from lsgcli.config.resolve import as_toml
from lsgcli.config.run import check_equal
from lsgcli.errors import ConfigError, OutOfMemoryError, RunInUseError, StorageError, install_hint
from lsgcli.runs import checks
from lsgcli.store.names import canonical
from lsgcli.store.rundir import LOCK, check_links, read_metrics
from lsgcli.sweeps.cells import check_same
from lsgcli.sweeps.jobs import CellState
from lsgcli.sweeps.plan import Cell
from lsgcli.sweeps.schedule import Strategy
from lsgcli.sweeps.search import TRIALS, Search
from lsgcli.system import files
from lsgcli.system.interpreter import __version__
from lsgcli.system.schema import Record

try:
    import optuna
    from optuna.trial import TrialState
    from sqlalchemy import NullPool
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as error:
    raise ConfigError(f"optuna cannot be imported: {error}", install_hint("tune")) from error

STUDY = "study.db"
BEST = "best.toml"
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


def open_study(search: Search, root: Path, prune: bool) -> optuna.Study:
    """The study in a directory, created if it does not exist.

    Args:
        root: its directory, which also names it.
        prune: whether trials are pruned.

    Raises:
        RunInUseError: ``root`` contains other files but no study, another command runs the study, or it has other settings.
        ConfigError: another version of Optuna wrote it, or ``root`` is in the folder of the data.
        StorageError: the database cannot be opened, or is a symbolic link.
    """
    checks.check_place(root, search.config({}))
    for name in (STUDY, BEST):
        files.check_no_link(root / name)
    if not (root / STUDY).exists():
        for path in root.glob("[!.]*"):
            found = f"{root}: found {path.name}, expected a new or empty directory, or that of a study"
            raise RunInUseError(found, "Choose another --out.")
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    with files.making_folder(root), _alone(root), _database():
        # A URL cannot express every path. Without a pool, a connection is closed after each use.
        connect = {"creator": functools.partial(sqlite3.connect, root / STUDY), "poolclass": NullPool}
        try:
            database = optuna.storages.RDBStorage("sqlite://", connect)
        except RuntimeError as error:
            raise ConfigError(f"{root / STUDY}: cannot be opened: {error}") from error
        study = optuna.create_study(
            storage=database,
            study_name=root.resolve().name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner(),
        )
        wanted = search.identity()
        stored = study.user_attrs.get("search")
        if stored is None and not study.trials:
            study.set_user_attr("search", wanted)
        else:
            check_equal(f"study {study.study_name}", renamed(stored or {}), wanted, RunInUseError, "Choose another --out.")
    return study


def _alone(root: Path) -> contextlib.AbstractContextManager[None]:
    """Context in which no other command uses a study."""
    hint = "Wait for it, or stop it; --launcher runs several trials at a time."
    return files.locked(root / LOCK, RunInUseError(f"{root}: another command runs this study", hint))


@contextlib.contextmanager
def _database() -> Iterator[None]:
    """Convert errors of the database."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StorageError(
            f"the study cannot be read or written: {reason}", "Check the permissions of --out, and the free space."
        ) from error


class Trials(Strategy):
    """The trials of a study. Optuna chooses their values and prunes them.

    Args:
        trials: number of trials of the study.
    """

    def __init__(self, study: optuna.Study, search: Search, root: Path, trials: int):
        super().__init__(root, ())
        self.study = study
        self.search = search
        self.trials = trials
        self._begun: list[optuna.trial.FrozenTrial] = []  # by an earlier command, which did not end them
        self._running: dict[Cell, optuna.Trial] = {}

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Context in which trials run. Those that are unfinished on exit are left to the next command.

        Raises:
            RunInUseError: another command runs the study.
            StorageError: the database cannot be read or written.
        """
        with _alone(self.root), _database():
            self._begun = self._trials(TrialState.RUNNING)
            yield

    def next(self, slots: int) -> Cell | None:
        if len(self._running) >= slots:
            return None
        if self._begun:
            trial = optuna.Trial(self.study, self._begun.pop(0)._trial_id)
        elif len(self._trials(TrialState.RUNNING, *DONE)) < self.trials:
            trial = self.study.ask()
        else:
            return None
        # Values do not depend on how often the study was interrupted.
        seed = np.random.SeedSequence([self.search.config({}).seed, trial.number])
        self.study.sampler = optuna.samplers.TPESampler(seed=int(seed.generate_state(1)[0]))
        config = self.search.suggest(trial)
        label = f"trial {trial.number}: {values_text(renamed(trial.params))}"
        cell = Cell(trial.number, config, self.root / TRIALS / str(trial.number), test=False, label=label)
        check_links(cell.path, self.root)
        check_same(cell)
        self._running[cell] = trial
        return cell

    def prunes(self, cell: Cell, now: CellState) -> bool:
        trial = self._running[cell]
        reported = len(self._trials()[trial.number].intermediate_values)
        if now.epochs <= reported:
            return False
        for epoch in read_metrics(cell.path)[reported:]:
            trial.report(epoch["val_accuracy"], epoch["epoch"])
            if epoch["epoch"] + 1 < cell.config.epochs and trial.should_prune():
                return True
        return False

    def tolerates(self, status: int | None) -> bool:
        return status in (ConfigError.exit_code, OutOfMemoryError.exit_code)

    def ended(self, cell: Cell, now: CellState) -> None:
        trial = self._running.pop(cell)
        if now.message:
            trial.set_user_attr("problem", now.message)
        if now.kind == "done" and not now.message:
            self.study.tell(trial, now.accuracy)
        else:  # the sampler avoids the values of a pruned trial
            self.study.tell(trial, state=TrialState.PRUNED)

    def progress(self) -> str:
        return f"{len(self._trials(*DONE))} of {self.trials} trials"

    def _trials(self, *states: TrialState) -> list[optuna.trial.FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)


def values_text(params: Record) -> str:
    """Values of axes, such as ``method=fixed width=0.7123``."""
    return " ".join(f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items())


def conclude(study: optuna.Study, search: Search, root: Path) -> Record:
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
        records = [_record(trial, root) for trial in study.get_trials(deepcopy=False, states=DONE)]
    records.sort(key=lambda record: (record["state"] != "finished", -(record["val_accuracy"] or 0), record["trial"]))
    if not records or records[0]["state"] != "finished":
        problem = next((f": {record['problem']}" for record in records if record["problem"]), "")
        raise ConfigError(f"found no trial that was trained to its end{problem}", "Search other values.")
    best = records[0]
    file = root / BEST
    head = (
        f"# lsg {__version__} tune: trial {best['trial']} of the study {study.study_name}, the best of {len(records)}.\n"
        f"# Accuracy of the best epoch on the validation split: {best['val_accuracy']:.6f}\n"
    )
    files.write_text(file, head + as_toml(search.config(best["settings"])))
    return {"study": study.study_name, "config": str(file), "best": best, "trials": records}


def _record(trial: optuna.trial.FrozenTrial, root: Path) -> Record:
    problem = trial.user_attrs.get("problem")
    finished = trial.state is TrialState.COMPLETE
    record = {
        "trial": trial.number,
        "state": "finished" if finished else "failed" if problem else "pruned",
        "val_accuracy": trial.value if finished else max(trial.intermediate_values.values(), default=None),
        "epochs": max(trial.intermediate_values, default=-1) + 1,
        "settings": renamed(trial.params),
        "run": str(root / TRIALS / str(trial.number)),
        "problem": problem,
    }
    return canonical(record, "tune")
