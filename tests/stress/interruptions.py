"""Interrupt lsg at random moments and see that nothing is lost: `python -m tests.stress.interruptions`, a few minutes.

- SIGTERM a training run at random moments, resuming each time: the final checkpoints must have the bits of an undisturbed run.
- SIGKILL a process in the middle of saving: the newest checkpoint must load, and be one that was saved.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from lsgcli import checkpoint, models
from lsgcli.checkpoint import Checkpoint

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


def kill_while_saving(folder: Path, times: int, rng: random.Random) -> dict[str, object]:
    """SIGKILL a process that does nothing but save, ``times`` times."""
    torch.set_num_threads(1)  # forked processes must not share a pool of threads
    model = models.build("vggsnn", width_multiplier=0.25)
    config = {**checkpoint.describe(model, "vggsnn"), "classes": [], "settings": {}, "data": {}}
    path, half_written, epochs = folder / "last.safetensors", 0, []
    checkpoint.save(path, Checkpoint(model.state_dict(), config, {"epoch": 0}))
    for _ in range(times):
        child = os.fork()
        if child == 0:
            epoch = epochs[-1] if epochs else 0
            while True:
                epoch += 1
                checkpoint.save(path, Checkpoint(model.state_dict(), config, {"epoch": epoch}))
        time.sleep(rng.uniform(0.02, 0.25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        half_written += len(list(folder.glob(".partial-*"))) > 0
        for left in folder.glob(".partial-*"):
            left.unlink()
        epochs.append(checkpoint.read(path).state["epoch"])  # raises if it is not whole
    return {"kills": times, "in_the_middle_of_a_file": half_written, "loaded": len(epochs), "saves": epochs[-1]}


def main() -> None:
    """Run both and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--terminations", type=int, default=5)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="*", default=["--epochs", "8"], help="of lsg train")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(kill_while_saving(Path(folder), arguments.kills, rng)), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(terminate_and_resume(Path(folder), arguments.terminations, rng, arguments.options)), flush=True)


if __name__ == "__main__":
    main()
