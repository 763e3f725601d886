"""Everything that needs a GPU, in order of value: tests, correctness, speed, memory, and the paper's Table 1 with all channels.

    pip install -e '.[dev,bench]'
    python -m benchmarks.gpu --minutes 40 --out results/
    python -m benchmarks.gpu --rehearse          # the same parts at toy size on the CPU, in less than two minutes

Each part is written to ``<out>/<part>.json`` while it runs. The same command again skips complete parts and continues the others, so a
run can be divided among several sessions. At the end, and with ``--page`` alone, ``<out>/page.md`` shows the results as tables. Results
in ``benchmarks/results/gpu``, the default of ``--out``, appear in the documentation; those of a rehearsal cannot be written there.
"""

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from benchmarks import gpu_parts, step
from benchmarks.bench.cases import Case
from benchmarks.gpu_parts import OutOfTime, Record, Run
from benchmarks.measuring import RESULTS, machine
from benchmarks.tables import Table, megabytes, show
from lsgcli.system.files import write_text

FOLDER = RESULTS / "gpu"
RACES = [(network, precision, "train") for precision in ("bf16", "fp32") for network in ("vggsnn", "resnet19")]
RACES += [(network, "bf16", "inference") for network in ("vggsnn", "resnet19")]
Part = Callable[[Run], Iterator[Record]]


def parts(before: Mapping[str, Record], rehearse: bool = False) -> dict[str, Part]:
    """Every part by name, the most valuable first; a rehearsal has two races only."""
    races: dict[str, Part] = {
        "-".join(race): functools.partial(gpu_parts.raced, network=race[0], precision=race[1], mode=race[2])
        for race in (RACES[::5] if rehearse else RACES)
    }
    most, others = dict(list(races.items())[:2]), dict(list(races.items())[2:])
    return {
        "rates": gpu_parts.rates,
        "selftest": gpu_parts.selftest,
        "tests": gpu_parts.tests,
        "random-layers": gpu_parts.random_layers,
        "networks": gpu_parts.networks,
        **most,
        "kernels": gpu_parts.kernels,
        **others,
        "memory": gpu_parts.memory,
        "table1": functools.partial(gpu_parts.table1, before=before.get("table1", {})),
    }


def card(rehearse: bool) -> Record:
    """Name, capability, memory and driver library of the GPU."""
    if rehearse:
        return {"name": "rehearsal on the CPU"}
    if not torch.cuda.is_available():
        raise SystemExit("found no CUDA device, expected one; --rehearse runs at toy size on the CPU")
    found = torch.cuda.get_device_properties(0)
    capability = f"{found.major}.{found.minor}"
    return {"name": found.name, "capability": capability, "memory_bytes": found.total_memory, "cuda": torch.version.cuda}


def load(folder: Path) -> dict[str, Record]:
    """Part -> record, of those in a folder."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return {record["part"]: record for record in found if "part" in record}


def measure(run: Run, only: list[str] | None) -> None:
    """Run the parts that are not complete."""
    run.out.mkdir(parents=True, exist_ok=True)
    before, facts = load(run.out), {**machine("triton", "spikingjelly", "snntorch"), "card": card(run.rehearse)}
    if others := {record["machine"]["card"]["name"] for record in before.values()} - {facts["card"]["name"]}:
        raise SystemExit(
            f"{run.out}: found results of {', '.join(others)}, expected {facts['card']['name']}: use another --out"
        )
    for name, part in parts(before, run.rehearse).items():
        if (only and name not in only) or before.get(name, {}).get("complete"):
            continue
        if run.left() < 0:
            print(f"{name}: no time left", file=sys.stderr)
            continue
        print(f"{name}, {run.left() / 60:.0f} minutes left", file=sys.stderr)
        record: Record = {"part": name, "machine": facts, "rehearsal": run.rehearse, "complete": False}
        try:
            for found in part(run):
                record |= found
                write(run.out, record)
            record["complete"] = True
        except OutOfTime:
            print(f"{name}: the time is over", file=sys.stderr)
        except (Exception, SystemExit) as error:  # the other parts may succeed
            record["error"] = f"{type(error).__name__}: {error}"
            print(f"{name}: {record['error']}", file=sys.stderr)
        write(run.out, record)


def write(folder: Path, record: Record) -> None:
    """Replace the record of a part."""
    write_text(folder / f"{record['part']}.json", json.dumps(record, indent=1) + "\n")


def tables(records: Mapping[str, Record]) -> list[Table]:
    """The results of all parts that have any."""
    found = [_checks(records), _steps(records), *_kernels(records), *_memory(records), *_table1(records)]
    races = [record for record in records.values() if "contenders" in record]
    found += [table for record in races for table in step.tables(record)[:2]]
    return [table for table in found if table.rows]


def _checks(records: Mapping[str, Record]) -> Table:
    table = Table("Checks", ("part", "result", "passed"))

    def add(name: str, result: str, passed: bool) -> None:
        table.rows.append((name, result, "yes" if passed else "NO"))

    if cases := records.get("selftest", {}).get("results"):
        failures = [case["failure"] for case in cases if case["failure"]]
        add("self-test of compiled", "; ".join([f"{len(cases)} cases, {len(failures)} failed", *failures]), not failures)
    if "tests" in (tests := records.get("tests", {})):
        counts = f"{tests['tests']} tests: {tests['failures'] + tests['errors']} failed, {tests['skipped']} skipped"
        add("tests", "; ".join([counts, *tests["failed"]]), tests["failures"] == tests["errors"] == 0)
    if "cases" in (layers := records.get("random-layers", {})):
        counts = ", ".join(f"{layers[key]} {key.replace('_', ' ')}" for key in ("equal", "differ", "passed_over"))
        name = f"{layers['cases']} random layers, {layers['backend']} against reference in float64"
        add(name, counts, layers["differ"] == 0)
    for row in records.get("networks", {}).get("rows", ()):
        errors = [f"{row[key]:.1e} of {what}" for key, what in (("spikes", "the spikes differ"), ("gradient", "the gradient"))]
        others = [f"{of:.1e}" for of in row["reference"].values()]
        result = f"{', '.join(errors)}; reference in this type: {', '.join(others)}"
        add(f"{row['network']} in {row['type']}, {row['backend']} against reference in float64", result, row["passed"])
    for name, record in records.items():
        missing = ", ".join(record.get("left_out", ()))
        if problem := record.get("error") or (missing and f"could not run: {missing}"):
            add(name, problem, False)
        elif not record["complete"]:
            add(name, "not complete", False)
    return table


def _steps(records: Mapping[str, Record]) -> Table:
    table = Table("Steps, ms", ("case", "precision", "lsg", "convolutions alone"))
    for record in records.values():
        for name, found in record.get("contenders", {}).items():
            contender, precision = name.split()
            if contender == "lsg":
                alone = record["contenders"].get(f"floor {precision}", {}).get("seconds", {}).get("median")
                shown = ["-" if s is None else f"{1e3 * s:.2f}" for s in (found["seconds"]["median"], alone)]
                table.rows.append((Case(**record["case"]).title, precision, *shown))
    return table


def _kernels(records: Mapping[str, Record]) -> list[Table]:
    found = []
    for row in records.get("kernels", {}).get("rows", ()):
        table = Table(f"{Case(**row['case']).title}, bf16: kernels", ("kernel", "ms"))
        table.rows = [(name, f"{1e3 * seconds:.2f}") for name, seconds in row["seconds"].items()]
        found.append(table)
    return found


def _memory(records: Mapping[str, Record]) -> list[Table]:
    record = records.get("memory", {})
    table = Table("VGGSNN, bf16: peak MB of a training step", ("contender", "by T", "MB per timestep"))
    for name, peaks in record.get("peaks", {}).items():
        added = record.get("bytes_per_timestep", {}).get(name)
        by_t = ", ".join(f"{t}: {megabytes(peak)}" for t, peak in peaks.items())
        table.rows.append((name, by_t, "-" if added is None else f"{added / 1e6:.1f}"))
    return [table]


def _table1(records: Mapping[str, Record]) -> list[Table]:
    record = records.get("table1", {})
    table = Table(f"Table 1, {record.get('epochs')} epochs, seed 0", ("method", "accuracy", "paper, 300 epochs"))
    for row in record.get("table", {}).get("rows", ()):
        values = (row["mean"], row["paper"])
        table.rows.append((row["method"], *("-" if value is None else f"{100 * value:.2f} %" for value in values)))
    return [table]


def page(records: Mapping[str, Record]) -> str:
    """The tables as Markdown, after the card and the command."""
    facts = next(iter(records.values()))["machine"]
    versions = ", ".join(f"{name} {found}" for name, found in facts["versions"].items())
    head = f"{facts['card']['name']}, {facts['processor']}, {facts['cores']} cores, {versions}; {facts['date']}."
    return "\n\n".join([head, f"    {facts['command']}", *(table.markdown() for table in tables(records))])


def main() -> None:
    """Measure, print the tables and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=40.0, help="stop after this time; default: 40")
    parser.add_argument("--out", type=Path, help="folder of the results; default: benchmarks/results/gpu")
    parser.add_argument("--data-dir", help="of CIFAR-10; default: data/, downloaded if absent")
    parser.add_argument("--part", choices=list(parts({})), action="append", help="only this part; can be repeated")
    parser.add_argument("--rehearse", action="store_true", help="at toy size on the CPU; default of --out: a new folder")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    options = parser.parse_args()
    out = options.out or (Path(tempfile.mkdtemp(prefix="rehearsal-")) if options.rehearse else FOLDER)
    if options.rehearse and out.resolve().is_relative_to(RESULTS):
        parser.error(f"--out: found {out}, expected a folder outside {RESULTS} for a rehearsal")
    deadline = time.monotonic() + 60 * options.minutes
    if not options.page:
        measure(Run(out.resolve(), options.rehearse, deadline, options.data_dir), options.part)
    if not (records := load(out)):
        parser.error(f"--out: found no results in {out}")
    show(tables(records))
    rehearsal = any(record["rehearsal"] for record in records.values())
    note = "**A rehearsal at toy size on the CPU: not a measurement.**\n\n" if rehearsal else ""
    (out / "page.md").write_text(f"{note}{page(records)}\n", encoding="utf-8")
    print(out / "page.md", file=sys.stderr)


if __name__ == "__main__":
    main()
