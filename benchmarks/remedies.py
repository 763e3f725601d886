"""Experiment E6 of benchmarks/plans.md: are findings right, and do their remedies cure?

    python -m benchmarks.remedies --seeds 3-5                              # everything on digits-dvs
    python -m benchmarks.remedies --seeds 3 --failures "width 20" "batch 2"
    python -m benchmarks.remedies --data n-mnist --data-dir FOLDER --seeds 3-5
    python -m benchmarks.remedies --healthy                                # findings on unbroken networks

For each failure of :mod:`benchmarks.broken` and each seed: the unbroken run, the broken one, its findings, and a run for each of the first
three remedies. Each is added to the record ``evidence-remedies-NAME`` when it ends; a repeated command continues.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.broken import FAILURES, Failure
from benchmarks.measuring import change, machine, read
from benchmarks.tables import Table, show

DATA: dict[str, dict[str, Any]] = {
    "digits-dvs": {"dataset": "digits-dvs", "arch": "mlp", "size": 16, "epochs": 15},
    "n-mnist": {"dataset": "n-mnist", "arch": "mlp", "epochs": 10, "val_fraction": 0.2},
}
NEAR = 0.05  # of the unbroken accuracy: cured; a failure that is nearer is harmless
TRIED = 3  # remedies
HEALTHY: list[dict[str, Any]] = [
    *(
        {"dataset": "digits-dvs", "epochs": 6, "method": method}
        for method in ("fixed", "trainable-decay", "lsg", "measured-sigma", "isometric")
    ),
    *({"dataset": "digits-dvs", "epochs": 6, "neuron": neuron} for neuron in ("clif", "klif", "glif")),
    *({"dataset": "digits-dvs", "epochs": 6, "method": method} for method in ("asgl", "trsg", "ds-atgo", "mpd-agl")),
    *({"dataset": "digits-dvs", "epochs": 6, "norm": norm} for norm in ("bn", "tebn", "mpbn")),
    {"dataset": "digits-dvs", "epochs": 10, "arch": "mlp"},
    {"dataset": "digits-dvs", "epochs": 15, "arch": "resnet19", "depth": 9, "size": 16},
    {"dataset": "digits-dvs", "epochs": 6, "reset": "soft", "decay": 0.5},
    {"dataset": "digits", "epochs": 6},
    {"dataset": "digits", "epochs": 6, "optimizer": "adamw", "lr": 1e-3, "surrogate": "atan"},
]


class Records:
    """The record ``evidence-NAME``, written after each run; several commands can add to it at the same time."""

    def __init__(self, name: str):
        self.name = f"evidence-{name}"
        self.runs: dict[str, dict[str, Any]] = (read(self.name) or {"runs": {}})["runs"]

    def __contains__(self, key: str) -> bool:
        return key in self.runs

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Add a run to those that are stored."""

        def added(stored: dict[str, Any] | None) -> dict[str, Any]:
            self.runs = (stored or {"runs": {}})["runs"] | {key: record}
            return {"machine": machine("numba"), "runs": dict(sorted(self.runs.items()))}

        change(self.name, added)
        print(f"{key}: {record['accuracy']}", file=sys.stderr)


def train(settings: dict[str, Any], failure: Failure | None = None, diagnosed: bool = False) -> dict[str, Any]:
    """Validation accuracy of the last epoch, 0 if training diverged; with ``diagnosed`` also the findings, in the order of their rank."""
    from lsgcli import api
    from lsgcli.errors import DivergedError
    from lsgcli.store.rundir import read_last_epoch

    measured = dict(failure.measured) if failure else {}
    with tempfile.TemporaryDirectory() as folder, (failure or Failure(())).planted():
        run = Path(folder) / "run"
        try:
            api.train(run, **settings, threads=1)
            accuracy = read_last_epoch(run)["val_accuracy"]
        except DivergedError:
            accuracy = 0.0
        if measured:
            accuracy = api.evaluate(run, split="val", **measured).accuracy
        record: dict[str, Any] = {"accuracy": round(accuracy, 4)}
        if diagnosed:
            record["findings"] = [
                {name: found[name] for name in ("rule", "severity", "layers", "measure", "value")}
                | {"settings": found["remedy"]["settings"]}
                for found in api.diagnose(run, 2, **measured)["findings"]
            ]
        return record


def experiment(records: Records, base: dict[str, Any], name: str, seed: int) -> None:
    """All runs of a failure and a seed that are not yet recorded."""
    failure, common = FAILURES[name], {**base, "seed": seed}
    unbroken = {**common, **failure.base}
    key = f"unbroken {json.dumps(dict(failure.base), sort_keys=True)}, seed {seed}"
    if key not in records:
        records.add(key, train(unbroken))
    broken = f"{name}, seed {seed}"
    if broken not in records:
        records.add(broken, {"unbroken": key, **train({**unbroken, **failure.settings}, failure, diagnosed=True)})
    found = records.runs[broken]
    if not is_broken(records, found):
        return
    tried: list[dict[str, Any]] = []
    for finding in found["findings"]:
        settings = finding["settings"]
        if settings and settings not in tried:
            tried.append(settings)
    for number, settings in enumerate(tried[:TRIED], 1):
        if (remedy := f"{broken}, remedy {number}") not in records:
            whole = {**unbroken, **failure.settings, **settings}
            if not whole.get("dropout"):
                whole.pop("dropout_at", None)  # has no effect then
            records.add(remedy, {"settings": settings, **_tried(whole, failure)})


def _tried(settings: dict[str, Any], failure: Failure) -> dict[str, Any]:
    from lsgcli.errors import LsgError

    try:
        return train(settings, failure)
    except LsgError as error:
        return {"accuracy": None, "error": error.message}


def is_broken(records: Records, found: dict[str, Any]) -> bool:
    """Whether a failure cost accuracy."""
    return bool(found["accuracy"] < records.runs[found["unbroken"]]["accuracy"] - NEAR)


def healthy(records: Records, seed: int) -> None:
    """Findings on unbroken networks."""
    for settings in HEALTHY:
        key = f"healthy {json.dumps(settings, sort_keys=True)}, seed {seed}"
        if key not in records:
            records.add(key, train({**settings, "seed": seed}, diagnosed=True))


def outcomes(record: dict[str, Any]) -> list[dict[str, Any]]:
    """A planted failure of a seed each: accuracies, place of the cause among the findings, and number of the remedy that cured it."""
    runs, found = record["runs"], []
    for key, run in runs.items():
        name, _, seed = key.partition(", seed ")
        if name not in FAILURES or not seed.isdigit():
            continue
        failure, unbroken = FAILURES[name], runs[run["unbroken"]]["accuracy"]
        told = [one["rule"] for one in run["findings"] if one["severity"] != "note"]
        places = [place for place, rule in enumerate(told, 1) if rule in failure.causes]
        tried = [runs[f"{key}, remedy {n}"]["accuracy"] for n in range(1, TRIED + 1) if f"{key}, remedy {n}" in runs]
        cured = [n for n, accuracy in enumerate(tried, 1) if accuracy is not None and accuracy >= unbroken - NEAR]
        found.append(
            {
                "failure": name,
                "seed": int(seed),
                "unbroken": unbroken,
                "broken": run["accuracy"],
                "harmful": run["accuracy"] < unbroken - NEAR,
                "told": told,
                "place": places[0] if places else None,
                "by_hand": failure.by_hand,
                "tried": tried,
                "cured": cured[0] if cured else None,
            }
        )
    return found


def tables(record: dict[str, Any]) -> list[Table]:
    """Counts of all failures, each failure, and the unbroken networks."""
    every = outcomes(record)
    harmful = [one for one in every if one["harmful"]]
    by_settings = [one for one in harmful if not one["by_hand"]]
    counts = Table("Counts", ("", "of", "share"))
    for text, among, right in (
        ("cause is the first finding", harmful, lambda one: one["place"] == 1),
        ("cause among the first two findings", harmful, lambda one: one["place"] in (1, 2)),
        ("cured by the first remedy that is a setting", by_settings, lambda one: one["cured"] == 1),
        ("cured by one of the first three", by_settings, lambda one: one["cured"] is not None),
    ):
        if among:
            count = sum(map(right, among))
            counts.rows.append((text, f"{count} of {len(among)}", f"{count / len(among):.0%}"))
    each = Table(
        "Each failure, by seed",
        ("failure", "unbroken, %", "broken, %", "first two findings", "place of the cause", "after remedies 1, 2, 3, %"),
    )
    for name in FAILURES:
        if not (own := sorted((one for one in every if one["failure"] == name), key=lambda one: one["seed"])):
            continue
        first = dict.fromkeys(", ".join(one["told"][:2]) or "none" for one in own)
        places = _joined("harmless" if not one["harmful"] else str(one["place"] or "not named") for one in own)
        after = _joined(", ".join(_percent(accuracy) for accuracy in one["tried"]) or "-" for one in own)
        unbroken, broken = (" ".join(_percent(one[key]) for one in own) for key in ("unbroken", "broken"))
        words = " (in words)" if own[0]["by_hand"] else ""
        each.rows.append((f"{name}{words}", unbroken, broken, " / ".join(first), places, after))
    found = [counts, each] if every else []
    well = Table("Unbroken networks", ("network", "validation, %", "errors and warnings", "notes"))
    for key, run in record["runs"].items():
        if key.startswith("healthy "):
            settings = json.loads(key.removeprefix("healthy ").rpartition(", seed ")[0])
            told = [[one["rule"] for one in run["findings"] if (one["severity"] == "note") == notes] for notes in (False, True)]
            words = ", ".join(f"{name} {value}" for name, value in settings.items())
            well.rows.append((words, _percent(run["accuracy"]), *(", ".join(rules) or "-" for rules in told)))
    return [*found, *([well] if well.rows else [])]


def _joined(seeds: Iterable[str]) -> str:
    """A text for each seed, or one if they are equal."""
    texts = list(seeds)
    return texts[0] if len(set(texts)) == 1 else "; ".join(texts)


def _percent(accuracy: float | None) -> str:
    return "error" if accuracy is None else f"{100 * accuracy:.0f}"


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=DATA, default="digits-dvs")
    parser.add_argument("--data-dir", help="folder of the data set")
    parser.add_argument("--seeds", default="3-5", help="first and last seed")
    parser.add_argument("--failures", nargs="+", choices=FAILURES, default=list(FAILURES))
    parser.add_argument("--healthy", action="store_true", help="only the unbroken networks, with the first seed")
    parser.add_argument("--name", help="of the record; default: that of the data set")
    parser.add_argument("--show", action="store_true", help="only the tables of the record")
    options = parser.parse_args()
    logging.getLogger("lsg").setLevel(logging.ERROR)
    records = Records(f"remedies-{options.name or options.data}")
    if options.show:
        show(tables({"runs": records.runs}))
        return
    first, _, last = options.seeds.partition("-")
    if options.healthy:
        healthy(records, int(first))
        return
    base = DATA[options.data] | ({"data_dir": options.data_dir} if options.data_dir else {})
    for seed in range(int(first), int(last or first) + 1):
        for name in options.failures:
            experiment(records, base, name, seed)


if __name__ == "__main__":
    main()
