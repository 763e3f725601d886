"""``lsg inspect-gradients --try``: remedies trained for a few epochs beside the unchanged run.

<run>/tried/<N>-epochs/unchanged/         an ordinary run directory
<run>/tried/<N>-epochs/threshold=0.5/     with the settings of a remedy
"""

import math
from collections.abc import Sequence
from pathlib import Path

from lsgcli.config.fields import Values
from lsgcli.config.resolve import resolve
from lsgcli.config.run import RunConfig
from lsgcli.errors import ConfigError
from lsgcli.runs.flow import advise
from lsgcli.store.flows import read_full
from lsgcli.store.rundir import read_config, read_data_folder, read_facts, read_last_epoch, read_result
from lsgcli.sweeps.jobs import CellState
from lsgcli.sweeps.plan import Cell, folder_name, text_of
from lsgcli.sweeps.schedule import Strategy
from lsgcli.system.schema import Record

FOLDER = "tried"
UNCHANGED = "unchanged"
MOST = 3  # remedies


class Trials(Strategy):
    """Trainings of remedies, of which one that fails does not end the others.

    Attributes:
        failed: what went wrong, by label.
    """

    failed: dict[str, str]

    def tolerates(self, status: int | None) -> bool:
        return True

    def ended(self, cell: Cell, now: CellState) -> None:
        super().ended(cell, now)
        if now.kind == "failed":
            self.failed[cell.label] = now.message


def trials(run: Path, findings: Sequence[Values], epochs: int) -> Trials:
    """The unchanged run and the first remedies that settings express, with the seed of the run.

    The unchanged run is the run itself if that has as many epochs, and is finished.

    Args:
        run: run directory.
        findings: ranked findings on the run.
        epochs: number of epochs of each.

    Raises:
        ConfigError: no finding has a remedy that settings express.
    """
    different = []
    for finding in findings:
        for way in ("settings", "alternative"):
            settings = dict(finding["remedy"].get(way, {}))
            if settings and settings not in different:
                different.append(settings)
    if not different:
        found = "no remedy that settings express" if findings else "nothing wrong with the run"
        raise ConfigError(f"--try: found {found}, expected a remedy to try", "Omit --try to see the findings.")
    root = run / FOLDER / f"{epochs}-epochs"
    done = read_config(run).epochs == epochs and read_result(run) is not None
    tested = done and "test" in read_facts(run).get("samples", {})  # its data are then compared with the test part
    made = [Cell(0, _config(run, {}, epochs), run if done else root / UNCHANGED, test=tested, label=UNCHANGED)]
    failed = {}
    for settings in different[:MOST]:
        try:
            config = _config(run, settings, epochs)
        except ConfigError as error:
            failed[text_of(settings)] = error.message
            continue
        if config != made[0].config:  # a remedy of the number of epochs
            made.append(Cell(len(made), config, root / folder_name(settings), test=False, label=text_of(settings)))
    planned = Trials(root.parent, made)  # files of jobs are two levels above a cell
    planned.failed = failed
    return planned


def _config(run: Path, settings: Values, epochs: int) -> RunConfig:
    brief = {"epochs": epochs, "data_dir": read_data_folder(run)}
    config = resolve({**settings, **brief}, file=run, environment={})
    whole = read_config(run).epochs
    # The same share of the epochs as in the run.
    warmup, cooldown = (math.ceil(edge * epochs / whole) for edge in (config.warmup_epochs, config.cooldown_epochs))
    return config.replace(warmup_epochs=min(warmup, epochs - 1), cooldown_epochs=min(cooldown, max(0, epochs - 1 - warmup)))


def table(tried: Trials) -> list[Record]:
    """A row for each trained cell, and one for each remedy that could not be trained.

    Returns:
        ``[{"remedy", "epochs", "accuracy", "loss", "chosen_on", "diverged", "gone", "new", "run", "failed"}]``; accuracy and loss are of the
        last epoch, on the split ``chosen_on``; ``gone`` and ``new`` are rules, compared with the unchanged run; ``failed`` is what went wrong.
    """
    rows = []
    before = set[str]()
    made = tried.cells
    for cell in made:
        if cell.label in tried.failed:
            continue
        result = read_result(cell.path) or {}
        last = read_last_epoch(cell.path)
        flow = read_full(cell.path)
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
                "failed": None,
            }
        )
    none = dict.fromkeys(("accuracy", "loss", "chosen_on", "diverged"))
    for label, message in tried.failed.items():
        rows.append(
            {"remedy": label, "epochs": made[0].config.epochs, **none, "gone": [], "new": [], "run": "", "failed": message}
        )
    return rows
