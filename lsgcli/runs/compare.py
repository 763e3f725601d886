"""Comparison of runs: differing settings, final results and gradient flow, read from run directories only."""

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lsgcli.config.run import MAY_CHANGE, SECTIONS, RunConfig, not_installed, varying
from lsgcli.errors import ConfigError, log
from lsgcli.store import flows
from lsgcli.store.names import canonical
from lsgcli.store.rundir import (
    FULL_FLOW,
    GRADIENT_FLOW,
    METRICS,
    config_of,
    folders_with_config,
    is_run,
    read_facts,
    read_precision,
    read_progress,
    read_result,
    state_of,
    tell_not_installed,
)
from lsgcli.system.schema import Record

Flow = Record  # a gradient-flow record


def find(paths: Iterable[Path]) -> list[Path]:
    """The runs at the given paths, without duplicates. A path is a run directory, a file in one, or a folder that contains runs.

    Other files and folders, such as those of ``runs/*/*`` that belong to an ablation, are skipped with a warning.

    Raises:
        ConfigError: a path does not exist, or none of them contains a run.
    """
    found: dict[Path, Path] = {}  # by their real paths
    skipped = []
    for path in paths:
        folder = path.parent if path.is_file() else path
        runs = [folder] if is_run(folder) else []
        if not runs and path.is_dir():
            below = folders_with_config(path)
            runs = [run for run in below if is_run(run) or (run / METRICS).exists()]
        if not (runs or path.exists()):
            raise _no_run(path)
        skipped += [] if runs else [path]
        for run in runs:
            found.setdefault(run.resolve(), run)
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


def compare(runs: Sequence[Path]) -> Record:
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
    configs = list[RunConfig]()
    records = list[Record]()
    groups: dict[Any, list[int]] = {}  # indices of runs that differ only in seed and fold; a repeated one is of another group
    repeated = Counter[Any]()
    digests = []
    lacking = []
    for run in runs:
        try:
            facts = read_facts(run)
            others = not_installed(facts.get("settings", {}))
            config = config_of(run, facts, others)
            records.append(_record(run, config))
            lacking.append(others)
            # The samples of a few batches depend on the seed, those of the parts on the fold.
            digest = None if config.overfit else facts.get("data_digest")
            if config.fold and (listed := facts.get("data_files")):
                digest = listed["sizes"]
            same = json.dumps([_shared(config), digest])
            repetition = same, config.seed, config.fold
            groups.setdefault((same, repeated[repetition]), []).append(len(configs))
            repeated[repetition] += 1
            configs.append(config)
            digests.append(digest)
        except ConfigError as error:
            if len(runs) == 1:
                raise
            _skip(error.message)
    if not records:
        raise ConfigError("found no readable run, expected at least one", "The warnings state what is damaged.")
    tell_not_installed(lacking)
    settings = varying([config.to_dict() for config in configs])
    if len(set(digests)) > 1 and settings.keys() & set(SECTIONS["Data"]) <= {"data_dir"}:
        settings["data_digest"] = digests
    return {
        "settings": settings,
        "runs": records,
        "groups": [_group(group, configs, records) for group in groups.values()],
    }


def _shared(config: RunConfig) -> Record:
    """The settings that runs of a group share: all that affect results but the seed, and which of K folds is the test part."""
    settings = {name: value for name, value in config.to_dict().items() if name != "seed" and name not in MAY_CHANGE}
    return settings | {"fold": config.fold and config.fold.partition("/")[2]}


def spread(values: Sequence[float]) -> Record:
    """``mean`` and sample standard deviation ``std`` of ``n`` values; None of too few."""
    mean = statistics.fmean(values) if values else None
    return {"mean": mean, "std": statistics.stdev(values) if len(values) > 1 else None, "n": len(values)}


def _group(runs: Sequence[int], configs: Sequence[RunConfig], records: Sequence[Record]) -> Record:
    known = [records[k]["accuracy"] for k in runs if records[k]["accuracy"] is not None]
    return {"runs": list(runs), "seeds": [configs[k].seed for k in runs], **spread(known)}


def _skip(problem: str) -> None:
    """Warn that a run is left out."""
    log.warning("Skipped: %s.", "; ".join(problem.splitlines()))


RESULT = ("accuracy", "accuracy_fp32", "test_accuracy_last", "test_accuracy_best", "best_epoch", "best_chosen_on")


def _record(run: Path, config: RunConfig) -> Record:
    result = read_result(run)
    state = state_of(run, result)
    last, best, seconds = read_progress(run)
    found = result or {}
    flow = final_flow(run, state) or flows.read_last(run)  # or that of the last epoch
    record = {
        "path": str(run),
        "method": config.method,
        "precision": read_precision(run),
        "state": state,
        "reason": found.get("diverged"),
        "epochs": last.get("epoch", -1) + 1,
        "of": config.epochs,
        **{name: found.get(name) for name in RESULT},
        "train_loss": last.get("train_loss"),
        **{name: last[name] for name in ("val_accuracy", "test_accuracy") if name in last},
        "best_val_accuracy": best,
        "seconds": round(seconds, 3),
        "layers": [
            {name: value for name, value in layer.items() if not isinstance(value, (list, dict))}
            for layer in flow.get("layers", [])
        ],
    }
    return canonical(record, "compare")


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
