"""Comparison of runs: differing settings, final results and gradient flow, read from run directories only."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lsgcli.config.run import SECTIONS, varying
from lsgcli.errors import ConfigError, LsgError, log
from lsgcli.runs.table import Repetition, Run, read, read_all, row_key, spread
from lsgcli.store import flows
from lsgcli.store.names import canonical
from lsgcli.store.rundir import FULL_FLOW, GRADIENT_FLOW, tell_not_installed
from lsgcli.system.schema import Record

Flow = Record  # a gradient-flow record


def find(paths: Iterable[Path]) -> list[Run]:
    """The runs at the given paths, without duplicates. A path is a run directory, a file in one, or a folder that contains runs.

    Other files and folders, such as those of ``runs/*/*`` that belong to an ablation, are skipped with a warning.

    Raises:
        ConfigError: a path does not exist, or none of them contains a run.
    """
    found: dict[Path, Run] = {}  # by their real paths
    skipped = []
    for path in paths:
        own = read(path.parent if path.is_file() else path)
        runs = [own] if own else read_all(path)
        if not (runs or path.exists()):
            raise _no_run(path)
        skipped += [] if runs else [path]
        for run in runs:
            found.setdefault(run.path.resolve(), run)
    if skipped and not found:
        raise _no_run(skipped[0])
    if skipped:
        log.warning("Skipped, not runs: %s", ", ".join(map(str, skipped)))
    return list(found.values())


def _no_run(path: Path) -> ConfigError:
    return ConfigError(
        f"{path}: found {'no run' if path.exists() else 'no such file or folder'}, "
        "expected a run directory, a checkpoint in one, or a folder that contains runs",
        "`lsg compare runs` compares all runs in or below a folder.",
    )


def compare(runs: Sequence[Run]) -> Record:
    """Settings that differ between runs, and their results. Of several runs, a damaged one is left out with a warning.

    Returns:
        JSON types. ``settings``: name -> list of values, for each setting that differs, and for ``data_digest`` if runs with the same
        settings of the data used different data. ``runs``: for each run its ``path``,
        ``method``, ``precision`` of the training, ``state`` (``finished``, ``diverged``, ``running`` or ``stopped``), ``reason`` of divergence, finished ``epochs``
        ``of`` planned ones; test ``accuracy``, ``accuracy_fp32`` after a training in another precision, ``test_accuracy_last``, ``test_accuracy_best``, ``best_epoch`` (from 0) and
        ``best_chosen_on``, None if not finished; ``train_loss`` and ``val_accuracy`` or ``test_accuracy`` of the last epoch;
        ``best_val_accuracy`` of all epochs so far, None without a validation split; the same by the names of :mod:`lsgcli.store.names`; ``seconds`` of all epochs; ``layers``:
        gradient-flow measures of the final network, of the diverged batch, or of the last epoch. ``groups``: runs on the same data that
        differ only in their seed or fold, each with the indices of its ``runs``, their ``seeds``, and ``mean`` and ``std`` of the ``n`` test accuracies.

    Raises:
        ConfigError: the files of the only run, or of all runs, are damaged.
    """
    told = list[Run]()
    records = list[Record]()
    groups: dict[Any, list[int]] = {}  # indices of runs that differ only in seed and fold; a repeated one is of another group
    repeated = Counter[Any]()
    digests = []
    for run in runs:
        try:
            records.append(_record(run))
        except LsgError as error:
            if len(runs) == 1:
                raise
            log.warning("Skipped: %s.", "; ".join(error.message.splitlines()))
            continue
        repetition = Repetition.of(run.settings)
        # The samples of a few batches depend on the seed, those of the parts on the fold.
        digest: Any = None if run.settings.overfit else run.facts.get("data_digest")
        if repetition.folds and (listed := run.facts.get("data_files")):
            digest = listed["sizes"]
        same = (row_key(run.settings), repetition.folds, digest)
        repeated[same, repetition] += 1
        groups.setdefault((same, repeated[same, repetition]), []).append(len(told))
        told.append(run)
        digests.append(digest)
    if not told:
        raise ConfigError("found no readable run, expected at least one", "The warnings state what is damaged.")
    tell_not_installed(run.lacking for run in told)
    settings = varying([run.settings.to_dict() for run in told])
    if len(set(digests)) > 1 and settings.keys() & set(SECTIONS["Data"]) <= {"data_dir"}:
        settings["data_digest"] = digests
    grouped = []
    for members in groups.values():
        accuracies = spread(records[k]["accuracy"] for k in members)
        grouped.append({"runs": members, "seeds": [told[k].settings.seed for k in members], **accuracies})
    return {"settings": settings, "runs": records, "groups": grouped}


def _record(run: Run) -> Record:
    if run.problem is not None:
        raise run.problem
    flow = final_flow(run.path, run.progress["state"]) or flows.read_last(run.path)  # or that of the last epoch
    layers = [
        {name: value for name, value in layer.items() if not isinstance(value, list | dict)} for layer in flow.get("layers", [])
    ]
    return canonical({**run.progress, "layers": layers}, "compare")


def final_flow(run: Path, state: str) -> Flow | None:
    """The full gradient-flow record of the final network, or of the diverged batch; None if there is neither.

    Raises:
        ConfigError: it cannot be read.
    """
    if state == "finished":
        flow = flows.read_full(run)
        return flow and flows.complete(flow, run / FULL_FLOW)
    last = flows.read_last(run)
    if state != "diverged" or not last.get("layers") or "event" not in last:
        return None
    return flows.complete({**last, "loss": None}, run / GRADIENT_FLOW)  # its loss is a string, inf or nan
