"""``lsg inspect-gradients --try``: remedies trained for a few epochs beside the unchanged run.

<run>/tried/<N>-epochs/unchanged/         an ordinary run directory
<run>/tried/<N>-epochs/threshold=0.5/     with the settings of a remedy
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lsgcli.config.resolve import resolve
from lsgcli.config.run import RunConfig
from lsgcli.errors import ConfigError
from lsgcli.runs.advise import advise
from lsgcli.store.flows import read_full
from lsgcli.store.rundir import read_data_folder, read_facts, read_last_epoch, read_result
from lsgcli.sweeps.plan import Cell, folder_name, text_of

FOLDER, UNCHANGED = "tried", "unchanged"
MOST = 3  # remedies
log = logging.getLogger("lsg")


def cells(run: Path, findings: Sequence[Mapping[str, Any]], epochs: int) -> list[Cell]:
    """The unchanged run and the first remedies that settings express, with the seed of the run.

    Args:
        run: run directory.
        findings: ranked findings on the run.
        epochs: number of epochs of each.

    Raises:
        ConfigError: no finding has a remedy that settings express.
    """
    different: list[dict[str, Any]] = []
    for finding in findings:
        settings = dict(finding["remedy"]["settings"])
        if settings and settings not in different:
            different.append(settings)
    if not different:
        found = "no remedy that settings express" if findings else "nothing wrong with the run"
        raise ConfigError(f"--try: found {found}, expected a remedy to try", hint="Omit --try to see the findings.")
    root = run / FOLDER / f"{epochs}-epochs"
    made = [Cell(0, _config(run, {}, epochs), root / UNCHANGED, test=False, label=UNCHANGED)]
    for settings in different:
        try:
            config = _config(run, settings, epochs)
        except ConfigError as error:
            log.warning("%s: not tried: %s", text_of(settings), error.message)
            continue
        if config != made[0].config:  # a remedy of the number of epochs
            made.append(Cell(len(made), config, root / folder_name(settings), test=False, label=text_of(settings)))
    return made[: 1 + MOST]


def _config(run: Path, settings: Mapping[str, Any], epochs: int) -> RunConfig:
    brief = {"epochs": epochs, "data_dir": read_data_folder(run)}
    config = resolve({**settings, **brief}, file=run, environment={})
    edges = config.warmup_epochs + config.cooldown_epochs
    return config if edges < epochs else config.replace(warmup_epochs=0, cooldown_epochs=0)


def table(made: Sequence[Cell]) -> list[dict[str, Any]]:
    """A row for each trained cell.

    Returns:
        ``[{"remedy", "epochs", "accuracy", "loss", "chosen_on", "diverged", "gone", "new", "run"}]``; accuracy and loss are of the
        last epoch, on the split ``chosen_on``; ``gone`` and ``new`` are rules, compared with the unchanged run.
    """
    rows, before = [], set[str]()
    for cell in made:
        result, last, flow = read_result(cell.path) or {}, read_last_epoch(cell.path), read_full(cell.path)
        chosen_on = "val" if "val_accuracy" in last else "test"
        classes = len(read_facts(cell.path).get("classes", ()))
        found = {one["rule"] for one in advise(flow, cell.config, cell.path, classes)} if flow else {"not-finite"}
        before = found if cell is made[0] else before
        rows.append(
            {
                "remedy": cell.label,
                "epochs": cell.config.epochs,
                "accuracy": last.get(f"{chosen_on}_accuracy"),
                "loss": last.get(f"{chosen_on}_loss"),
                "chosen_on": chosen_on,
                "diverged": result.get("diverged"),
                "gone": sorted(before - found),
                "new": sorted(found - before),
                "run": str(cell.path),
            }
        )
    return rows
