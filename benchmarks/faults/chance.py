"""Random experiments on a script, beside which those of ``lsg diagnose --try`` are judged: ``python -m benchmarks.faults.chance SCRIPT SECONDS SEED``.

Prints the findings as JSON: first the rule of the first random intervention with which the script learns, then those of lsg without experiments.
"""

import json
import random
import sys
import time
from contextlib import redirect_stdout

from lsgcli.runs import experiment, experiments
from lsgcli.runs import script as scripts


def main(script: str, seconds: float, seed: str) -> None:
    """Try interventions in random order for so many seconds."""
    start = time.monotonic()
    found = scripts.diagnose(script)
    question = experiments.question_of(found.record, found.seen, time.monotonic() - start, found.status)
    question.waiting = [one for one in question.waiting if one.rules and not one.edits]
    random.Random(seed).shuffle(question.waiting)
    for one in question.waiting:
        one.named = False  # so that the first that learns is the last
    done = experiments.of_script(experiment.Script(script), question, max(1.0, seconds - (time.monotonic() - start)))
    said = [{"rule": one.rules[0], "severity": "error"} for one in done if one.learns][:1]
    said += [finding for finding in found.record["findings"] if finding["severity"] != "note"]
    with redirect_stdout(found.stdout):
        print(json.dumps({"findings": [{"rule": one["rule"], "severity": one["severity"]} for one in said]}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
