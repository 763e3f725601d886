"""The tables of all records as one page of text, ``benchmarks/results/tables.md``; ``python docs/generate.py`` writes it."""

from collections.abc import Callable
from typing import Any

from benchmarks import (
    compiled,
    cost,
    critics,
    depth,
    diagnose,
    epoch,
    evidence,
    initialisation,
    memory,
    mlp,
    neighbours,
    parallel,
    profile,
    rates,
    remedies,
    reproduction,
    scaling,
    step,
    streaming,
    zeros,
)
from benchmarks.faults import judging, rivals
from benchmarks.faults.cases import failures, healthy
from benchmarks.measuring import RESULTS, read_all
from benchmarks.tables import Table

PAGE = RESULTS / "tables.md"
HEAD = """# Tables of the records

The figures that pages of the documentation cite come from these tables and from the records, of which
`python -m benchmarks.measuring NAME` prints one. Written by `python docs/generate.py`.
"""


def of_reproduction(record: dict[str, Any]) -> list[Table]:
    """The tables of the paper that a record has."""
    return [reproduction.table(record, number) for number in record["tables"]]


# Beginning of a record's name -> its tables; the longest one that fits.
TABLES: dict[str, Callable[[dict[str, Any]], list[Table]]] = {
    "compiled-": step.tables,
    "compiled-fp32": compiled.tables,
    "cost": cost.tables,
    "critics": critics.tables,
    "diagnose": diagnose.tables,
    "epoch": epoch.tables,
    "evidence": evidence.tables,
    "evidence-depth": depth.tables,
    "evidence-initialisation": lambda record: initialisation.tables(record["runs"]),
    "evidence-leak": lambda record: [],
    "evidence-remedies": remedies.tables,
    "initialisation-rates": lambda record: [initialisation.rates_table(record["rates"])],
    "library": step.tables,
    "memory": memory.tables,
    "mlp": mlp.tables,
    "neighbours": neighbours.tables,
    "parallel": parallel.tables,
    "profile": profile.tables,
    "rates": rates.tables,
    "reproduction": of_reproduction,
    "scaling": scaling.tables,
    "step": step.tables,
    "stream": streaming.tables,
    "zeros": zeros.tables,
    "zeros-": step.tables,
    "zeros-stream": streaming.tables,
}


def of_faults(name: str, runs: dict[str, dict[str, Any]]) -> str:
    """The table of a part of experiment E10, or of other tools on it."""
    cases = [case for case in failures() + healthy() if case.name in runs]
    return rivals.table(cases, runs) if name.endswith("rivals") else judging.table(cases, runs)


def text_of(name: str, record: Any) -> str:
    """The tables of a record in Markdown; empty if it has none."""
    if name.startswith("faults") and name != "faults-harm":
        return of_faults(name, record["runs"])
    fitting = max((start for start in TABLES if name.startswith(start)), key=len, default="")
    tables = TABLES[fitting](record) if fitting else []
    return "\n\n".join(table.markdown() for table in tables if table.rows) or "No table: see the record."


def page() -> str:
    """All of them, by experiment, with the command of each record that has one."""
    parts = [HEAD]
    experiments = {path.name.removesuffix(".json.gz") for path in RESULTS.glob("*.json.gz")}
    for experiment in sorted(experiments - {"quick", "stress"}):  # the rows of faults have a page
        for name, record in read_all(experiment).items():
            about = record.get("machine", record) if isinstance(record, dict) else {}
            command = [f"`{about['command']}`, {about['date']}"] if "command" in about and "date" in about else []
            parts.append("\n\n".join([f"## {name}", *command, text_of(name, record)]) + "\n")
    return "\n".join(parts)
