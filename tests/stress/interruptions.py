"""Stop lsg at random moments and see that nothing is lost: `python -m tests.stress.interruptions`, a few minutes.

SIGTERM a training run at random moments, resuming each time: the final checkpoints must have the bits of an undisturbed run.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from lsgcli import checkpoint

LSG = [sys.executable, "-m", "lsgcli"]


def train(*options: str) -> subprocess.Popen[str]:
    """A training run as a process of its own."""
    return subprocess.Popen([*LSG, "train", "-q", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def terminate_and_resume(folder: Path, times: int, rng: random.Random, options: list[str]) -> dict[str, object]:
    """SIGTERM at ``times`` random moments of a run."""
    begin = time.monotonic()
    whole = train("--out", str(folder / "whole"), *options)
    whole.communicate()
    assert whole.returncode == 0, "the undisturbed run failed"
    length = time.monotonic() - begin
    arguments, statuses, moments = ["--out", str(folder / "parts"), *options], [], []
    while True:
        run = train(*arguments)
        begun = folder / "parts" / "config.json"
        while run.poll() is None and not begun.exists():  # before that there is nothing to resume
            time.sleep(0.05)
        if len(moments) < times:
            moments.append(round(rng.uniform(2, 2 + 0.7 * length / times), 2))
            try:
                run.wait(moments[-1])
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGTERM)
        errors = run.communicate()[1]
        statuses.append(run.returncode)
        if run.returncode == 0:
            break
        assert run.returncode == 75 or run.returncode == -signal.SIGTERM, errors  # the latter: while torch was being imported
        arguments = ["--resume", str(folder / "parts")]
    equal = {}
    for name in ("last.safetensors", "best.safetensors"):
        first, second = (checkpoint.read(folder / part / name) for part in ("whole", "parts"))
        tensors = [{**content.weights, **content.extra} for content in (first, second)]
        same_names = tensors[0].keys() == tensors[1].keys()
        equal[name] = same_names and all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    metrics = [
        [
            {key: value for key, value in json.loads(line).items() if key != "seconds"}
            for line in (folder / part / "metrics.jsonl").read_text().splitlines()
        ]
        for part in ("whole", "parts")
    ]
    return {"statuses": statuses, "tensors_equal": equal, "metrics_equal": metrics[0] == metrics[1]}


def main() -> None:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--terminations", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="*", default=["--epochs", "8"], help="of lsg train")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(terminate_and_resume(Path(folder), arguments.terminations, rng, arguments.options)), flush=True)


if __name__ == "__main__":
    main()
