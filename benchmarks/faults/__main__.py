"""Experiment E10 of benchmarks/plans.md: does the tool name the cause of failures in users' own scripts?

    python -m benchmarks.faults --part tuning                 # run the tool on the scripts of a part, and judge
    python -m benchmarks.faults --part tuning --cures         # then train with the first remedies of failures/cures.toml
    python -m benchmarks.faults --part test --only norse-01   # one script
    python -m benchmarks.faults --part tuning --try           # with experiments, in a record of its own
    python -m benchmarks.faults --part tuning --rivals        # other tools on the same scripts
    python -m benchmarks.faults --part tuning --judge         # judge the record again, without runs

Each run is added to the record ``faults-PART`` (rivals: ``faults-PART-rivals``) when it ends; what it has is not run again
without ``--again``.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks.faults import judging, rivals
from benchmarks.faults.cases import PARTS, Case, failures, healthy
from benchmarks.faults.harm import HARM, scores
from benchmarks.faults.running import alone, by_chance, findings, judged_again, with_change
from benchmarks.measuring import RESULTS, machine, read, write
from lsgcli import registry
from lsgcli.analysis.experiments.verdict import Experiment, Outcome, best_of


def harmful(case: Case) -> bool:
    """Whether a failure costs enough to count."""
    known = scores()
    return known[case.script]["score"] - known[case.name]["score"] >= HARM


def reported(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The row of the experiment that the tool reports; None if no change, by which a rule stands, makes the script learn."""
    made: list[Experiment] = []
    for row in rows:
        kind = None if row["edits"] else registry.get("intervention", row["intervention"])
        rules = ("edit",) if kind is None else kind.rules
        known = {name: row[name] for name in ("skill", "held_out_skill") if row[name] is not None}
        outcome = Outcome(error=row["error"], **known)
        made.append(
            Experiment(row["intervention"], "", rules, bool(kind and kind.general), outcome=outcome, learns=row["learns"])
        )
    best = best_of(made)
    return rows[next(number for number, one in enumerate(made) if one is best[0])] if best else None


def main() -> None:
    """Run, judge, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these scripts, or those of these libraries")
    parser.add_argument("--again", action="store_true", help="also run what the record has")
    parser.add_argument("--cures", action="store_true", help="train with the first remedies")
    parser.add_argument("--try", dest="trying", action="store_true", help="let the tool run experiments")
    parser.add_argument("--records", type=Path, help="folder for what was seen of each script; with --judge, read from there")
    parser.add_argument("--chance", action="store_true", help="with --try: random experiments, for as many seconds")
    parser.add_argument("--rivals", action="store_true", help="run other tools")
    parser.add_argument("--judge", action="store_true", help="only judge the record")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the record; default: benchmarks/results")
    arguments = parser.parse_args()
    record_name = f"faults-{arguments.part}{'-rivals' * arguments.rivals}{'-try' * arguments.trying}"

    cases = [case for case in failures() if case.part == arguments.part and harmful(case)]
    cases += [case for case in healthy() if case.part == arguments.part]
    if arguments.trying:
        cases = [case for case in cases if not case.settings]
    if arguments.only:
        cases = [case for case in cases if {case.name, case.library} & set(arguments.only)]
    runs: dict[str, dict[str, Any]] = (read(record_name, arguments.out) or {"runs": {}})["runs"]

    def keep(name: str, record: dict[str, Any]) -> None:
        runs[name] = record
        content = {"machine": machine("scikit-learn", "snntorch", "spikingjelly", "norse"), "runs": dict(sorted(runs.items()))}
        write(record_name, content, arguments.out)

    if arguments.judge and arguments.records:
        runs |= {case.name: judged_again(case, arguments.records) for case in cases if not case.settings}
    for case in [] if arguments.judge else cases:
        if arguments.rivals and not arguments.again and case.name in runs:
            continue
        if arguments.rivals:
            keep(case.name, runs.get(case.name, {}) | {"rivals": rivals.all_of(case)})
        elif arguments.chance:
            keep(case.name, runs[case.name] | {"chance": by_chance(case, runs[case.name]["seconds"])})
        elif arguments.cures and arguments.trying:
            best = reported(runs[case.name].get("experiments", []))
            if case.edits and best is not None:
                score = with_change(case, best)
                keep(case.name, runs[case.name] | {"cured": score >= scores()[case.script]["score"] - HARM, "score": score})
        elif arguments.cures:
            cured = judging.with_first_remedy(case, runs.get(case.name))
            if cured is not None:
                keep(case.name, runs[case.name] | {"cured": alone(cured)["score"] >= scores()[case.script]["score"] - HARM})
        elif arguments.again or case.name not in runs:
            keep(case.name, findings(case, arguments.trying, arguments.records))
        print(case.name, [finding["rule"] for finding in runs.get(case.name, {}).get("findings", [])], flush=True)
    print(rivals.table(cases, runs) if arguments.rivals else judging.table(cases, runs))


if __name__ == "__main__":
    main()
