"""Advice on a run: what is wrong with its network, from its gradient flow, its epochs and its settings."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsgcli.analysis.advice import judge
from lsgcli.analysis.rules.base import Evidence
from lsgcli.config.resolve import usual
from lsgcli.config.run import RunConfig
from lsgcli.errors import CheckpointError
from lsgcli.store.flows import history
from lsgcli.store.rundir import BEST, DIVERGED, LAST, is_run, read_facts, read_metrics, read_result


def checkpoint_of(path: Path) -> Path:
    """The checkpoint of a run directory: that of its result, or else the last one; other paths are returned as they are.

    Raises:
        CheckpointError: the run has no checkpoint yet.
    """
    if not (path.is_dir() and is_run(path)):
        return path
    result = read_result(path) or {}
    names = [DIVERGED] if result.get("diverged") else [BEST, LAST] if result.get("best_chosen_on") == "val" else [LAST]
    found = next((path / name for name in (*names, LAST, DIVERGED) if (path / name).exists()), None)
    if found is None:
        raise CheckpointError(f"{path}: found a run without a checkpoint, expected one", hint="Let it train for an epoch.")
    return found


def advise(
    flow: dict[str, Any],
    config: RunConfig,
    run: Path,
    classes: int,
    limits: Mapping[str, float] | None = None,
    name: str = "",
) -> list[dict[str, Any]]:
    """Findings on a network, and verdicts on its layers, as :func:`lsgcli.analysis.advice.judge`.

    Args:
        flow: its gradient-flow record, to which they are added.
        config: settings of its run.
        run: its run directory, whose records are read if there are any, or its checkpoint.
        classes: number of classes.
        limits: thresholds of rules, by name.
        name: what commands call the run; default: its path.
    """
    folder = run if run.is_dir() else run.parent
    of_run = is_run(folder)
    result = (read_result(folder) if of_run else None) or {}
    facts: dict[str, Any] = {**read_facts(folder)} if of_run else {}
    evidence = Evidence(
        flow,
        settings=config.to_dict(),
        usual=usual(config.dataset),
        epochs=read_metrics(folder) if of_run else (),
        history=history(folder / LAST) if of_run else None,
        classes=classes,
        samples=(facts.get("samples") or {}).get("train", 0),
        tested=math.nan if (tested := result.get("accuracy")) is None else tested,
        diverged=bool(result.get("diverged")),
    )
    return judge(evidence, limits, run=name or str(folder if of_run else run))
