"""Generated tables of the documentation, from ``benchmarks/results``; ``python docs/generate.py`` writes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import gpu, reproduction, zeros, zoo
from benchmarks.measuring import RESULTS, read
from benchmarks.plot import load
from benchmarks.tables import Table

VERSIONS = ("torch", "lsgcli", "lsg", "spikingjelly", "snntorch", "onnxruntime")
NOTHING = "_No results yet._"
# Columns for which a page has no room; the records have them.
LEFT_OUT = {"n", "each seed", "last epoch", "best test epoch", "detectable", "convolutions, tensors"}
LEFT_OUT |= {"time / lsg bf16", "time / lsg int8"}


def where(records: list[dict[str, Any]]) -> str:
    """Processors, dates and versions that matter of records."""
    machines = [record["machine"] for record in records]
    versions: dict[str, dict[str, str]] = {}
    for m in machines:
        versions.setdefault(f"{m['processor'].strip()}, {m['cores']} cores, {m['date']}", {}).update(m["versions"])
    lines = [
        f"{machine}: " + ", ".join(f"{name} {found}" for name, found in of.items() if name in VERSIONS) + "."
        for machine, of in versions.items()
    ]
    return "\n".join(lines)


def shown(table: Table) -> str:
    """A table in Markdown, without the columns in ``LEFT_OUT``."""
    kept = [index for index, name in enumerate(table.head) if name not in LEFT_OUT]
    rows = [[row[index] for index in kept] for row in table.rows]
    return Table(table.title, [table.head[index] for index in kept], rows).markdown()


def reproduced(folder: Path, name: str, number: str) -> str:
    """A table of the paper as reproduced by an experiment."""
    record = read(f"reproduction-{name}", folder)
    if record is None:
        return NOTHING
    return (
        f"{reproduction.EXPERIMENTS[name].title}; {record['machine']['date']}.\n\n{shown(reproduction.table(record, number))}"
    )


def learned_widths(folder: Path) -> str:
    """Table 1 of the paper as reproduced: a row for each experiment, a column for each method."""
    table = Table("", ("accuracy, difference from `fixed`, 95 % interval", "`fixed`", "`trainable-decay`", "`lsg`", "paper"))
    for name, experiment in reproduction.EXPERIMENTS.items():
        if record := read(f"reproduction-{name}", folder):
            found = reproduction.table(record, "1")
            rows = [dict(zip(found.head, map(str, row), strict=True)) for row in found.rows]
            shown_in = ("accuracy", "difference", "95 % interval")
            paper = " / ".join(row["paper"] for row in rows) if name == "cifar" else ""  # the paper has no such other data
            cells = [", ".join(row[column] for column in shown_in if row[column] != "-") for row in rows]
            table.rows.append((experiment.title, *cells, paper))
    return table.markdown()


def steps_by_spikes(records: list[dict[str, Any]]) -> str:
    """Steps with convolutions by spikes, in one table; their commands are in the records."""
    return f"{where(records)}\n\n{shown(zeros.of_steps(records))}" if records else NOTHING


def gpu_run(folder: Path) -> str:
    """The results of ``benchmarks.gpu``."""
    records = gpu.load(folder)
    return gpu.page(records) if records else NOTHING


def parts(folder: Path = RESULTS) -> dict[str, Callable[[], str]]:
    """Name of a generated part -> function that returns its text. Records have more than these tables."""
    return {
        "reproduction-1": lambda: learned_widths(folder),
        "reproduction-cifar-2": lambda: reproduced(folder, "cifar", "2"),
        "zeros-steps": lambda: steps_by_spikes(load("zeros", folder)),
        "gpu-run": lambda: gpu_run(folder / "gpu"),
        "zoo-neurons": zoo.neurons,
        "zoo-methods": zoo.methods,
        "zoo-norms": zoo.norms,
        "zoo-networks": zoo.networks,
    }
