"""Advice on a run: what is wrong with its network, from its gradient flow, its epochs and its settings."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsgcli.analysis.advice import judge
from lsgcli.analysis.rules.base import Evidence
from lsgcli.config.resolve import usual
from lsgcli.config.run import RunConfig
from lsgcli.store.flows import history
from lsgcli.store.rundir import LAST, is_run, read_facts, read_metrics, read_result


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
