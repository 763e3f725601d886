"""Generated tables of the documentation, from ``benchmarks/results``; ``python docs/generate.py`` writes them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import (
    cost,
    depth,
    epoch,
    evidence,
    gpu,
    gpu_kernels,
    inspecting,
    neighbours,
    potential,
    profile,
    reproduction,
    roofline,
    scaling,
    startup,
    step,
    streaming,
    traffic,
    wait,
    zoo,
)
from benchmarks.measuring import RESULTS, read
from benchmarks.plot import load, steps
from benchmarks.tables import Table, megabytes
from benchmarks.workers import Case

PEERS = ("spikingjelly", "spikingjelly-best", "snntorch", "snntorch-best", "floor")
NOTHING = "_No results yet._"


def pairs(record: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(lsg contender, other contender, ratio): same precision, lsg in bf16 with spikingjelly in fp32, and lsg in int8 with floats."""
    for ours, others in record["ratios"].items():
        if ours.split()[0] == "lsg":
            for other, found in others.items():
                name, precision = other.split()
                across = name == "spikingjelly" and ours.endswith("bf16")
                below = ours.endswith("int8") and step.comparable(ours, other)
                if below or (name in PEERS and (precision == ours.split()[1] or across)):
                    yield ours, other, found


def comparison(records: list[dict[str, Any]]) -> Table:
    """One row per comparison of lsg with another contender."""
    head = (
        "case",
        "",
        "samples/s",
        "peak MB",
        "compared with",
        "samples/s",
        "peak MB",
        "speed ratio",
        "95 % interval",
        "peak ratio",
    )
    table = Table("", head)
    for record in records:
        for ours, other, found in pairs(record):
            a, b = record["contenders"][ours], record["contenders"][other]
            speed, spread = f"**{found['ratio']:.2f} x**", f"{found['low']:.2f} to {found['high']:.2f}"
            compared = (speed, spread, f"{found['peak']:.2f} x")
            table.rows.append((Case(**record["case"]).title, ours, *_figures(a), other, *_figures(b), *compared))
    return table


def _figures(found: dict[str, Any]) -> tuple[float, str]:
    return found["samples_per_second"], megabytes(found["peak_bytes"])


def where(records: list[dict[str, Any]]) -> str:
    """Machines, versions, dates and commands of records, without duplicates."""
    machines = [record["machine"] for record in records]
    lines = dict.fromkeys(
        f"{m['processor']}, {m['cores']} cores, {m['memory_bytes'] / 1e9:.0f} GB, {m['system']}, Python {m['python']}, "
        + ", ".join(f"{name} {found}" for name, found in m["versions"].items())
        + f"; {m['date']}."
        for m in machines
    )
    commands = dict.fromkeys(m["command"] for m in machines)
    return "\n".join([*lines, "", *(f"    {command}" for command in commands)])


def part(records: list[dict[str, Any]], tables: Callable[[dict[str, Any]], list[Table]]) -> str:
    """Machine and commands of records, followed by their tables."""
    if not records:
        return NOTHING
    return "\n\n".join([where(records), *(table.markdown() for record in records for table in tables(record))])


def compared(folder: Path, mode: str) -> str:
    """Comparison of training or inference steps."""
    records = steps(folder, mode)
    return "\n\n".join([where(records), comparison(records).markdown()]) if records else NOTHING


def reproduced(folder: Path, name: str, number: str) -> str:
    """A table of the paper as reproduced by an experiment, preceded by the command."""
    record = read(f"reproduction-{name}", folder)
    if record is None:
        return NOTHING
    facts = {**record["machine"], "command": f"python -m benchmarks.reproduction {name}"}
    title = f"{reproduction.EXPERIMENTS[name].title}."
    return "\n\n".join([title, where([{"machine": facts}]), reproduction.table(record, number).markdown()])


def commands(folder: Path) -> str:
    """The commands that every experiment ran."""
    records = [record for name in reproduction.EXPERIMENTS if (record := read(f"reproduction-{name}", folder))]
    return "\n".join(f"    {command}" for record in records for command in record["commands"]) or NOTHING


def floors() -> str:
    """The traffic of the Triton kernels, and the floor of a step on a GPU."""
    return "\n\n".join(["    python -m benchmarks.traffic", *(table.markdown() for table in traffic.tables())])


def gpu_run(folder: Path) -> str:
    """The results of ``benchmarks.gpu``."""
    records = gpu.load(folder)
    return gpu.page(records) if records else NOTHING


def parts(folder: Path = RESULTS) -> dict[str, Callable[[], str]]:
    """Name of a generated part -> function that returns its text."""
    every = lambda: [*steps(folder, "train"), *steps(folder, "inference")]  # noqa: E731
    return {
        "performance-train": lambda: compared(folder, "train"),
        "performance-inference": lambda: compared(folder, "inference"),
        "performance-contenders": lambda: part(every(), step.tables),
        "performance-stream": lambda: part(load(folder, "stream-*.json"), streaming.tables),
        "performance-scaling": lambda: part(load(folder, "scaling-*.json"), scaling.tables),
        "performance-profile": lambda: part(load(folder, "profile-*.json"), profile.tables),
        "performance-epoch": lambda: part(load(folder, "epoch.json"), epoch.tables),
        "performance-wait": lambda: part(load(folder, "wait*.json"), wait.tables),
        "performance-neighbours": lambda: part(load(folder, "neighbours-*[0-9].json"), neighbours.tables),
        "performance-inspecting": lambda: part(load(folder, "inspecting.json"), inspecting.tables),
        "reproduction-cifar-1": lambda: reproduced(folder, "cifar", "1"),
        "reproduction-cifar-2": lambda: reproduced(folder, "cifar", "2"),
        "reproduction-digits-dvs": lambda: reproduced(folder, "digits-dvs", "1"),
        "reproduction-n-mnist": lambda: reproduced(folder, "n-mnist", "1"),
        "reproduction-potential": lambda: part(load(folder, "potential.json"), potential.tables),
        "reproduction-commands": lambda: commands(folder),
        **{
            f"evidence-{name}": lambda name=name: part(load(folder, f"evidence-{name}.json"), evidence.tables)
            for name in evidence.EXPERIMENTS
        },
        "evidence-depth": lambda: part(load(folder, "evidence-depth.json"), depth.tables),
        "roofline": lambda: part(load(folder, "roofline.json"), roofline.tables),
        "gpu-kernels": lambda: part(load(folder, "gpu-kernels.json"), gpu_kernels.tables),
        "gpu-floor": floors,
        "gpu-run": lambda: gpu_run(folder / "gpu"),
        "zoo-neurons": lambda: zoo.neurons(folder),
        "zoo-resets": lambda: zoo.resets(folder),
        "zoo-methods": lambda: zoo.methods(folder),
        "zoo-norms": lambda: zoo.norms(folder),
        "zoo-networks": lambda: zoo.networks(folder),
        "zoo-cost": lambda: part(load(folder, "cost-*.json"), cost.tables),
        "zoo-library": lambda: part(load(folder, "library-*.json"), step.tables),
        "performance-startup": lambda: part(load(folder, "startup*.json"), startup.tables),
    }
