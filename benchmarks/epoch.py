"""Three epochs of N-MNIST, from the command to its end: ``lsg train`` beside a script that uses spikingjelly (``benchmarks.epoch_peer``).

    python -m benchmarks.epoch --data FOLDER     # with Train/<digit>/*.bin and Test/<digit>/*.bin; about 8 minutes for 850 recordings
    python -m benchmarks.epoch --data FOLDER --quick                                           # a look

Both train VGGSNN at a quarter of the channels, T=10, 32 px, in batches of 16 by SGD with momentum and weight decay, a cosine schedule and
cross-entropy of the mean logits, without augmentation, on frames with equal numbers of events; both evaluate on the test part and
write a checkpoint after each epoch. A run is a new process whose frames are on disk; making them is timed apart.

The peer is in multi-step mode (spikingjelly has one implementation for CPUs, torch's operations), with frames read by two processes
that stay between epochs. It runs as its library configures it, in float32, and as ``-best``: bf16 by autocast, channels-last memory,
lsg's allocator settings, its cheapest surrogate, and tdBN fused for evaluation. lsg runs in float32, and with its default precision,
bf16 on processors that multiply it. It also learns decays and reports the gradient flow, which the peer does not.

Runs take turns in random order. Peak memory is that of the tree of processes, in which a page shared by n of them counts 1/n in each.
Kernels are compiled before. No other programs should run. The record is written after every round to ``epoch``.
"""

import argparse
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench.measuring import kilobytes, ratio, spread
from benchmarks.measuring import ROOT, machine, write
from benchmarks.tables import Table, megabytes, show

EPOCHS, WIDTH, BATCH = 3, 0.25, 16
SAMPLING = 0.2  # seconds between looks at memory
FRAMES = ("--dataset", "n-mnist", "-T", "10", "--size", "32")
LSG = ("--arch", "vggsnn", "--loss", "ce", "--augment", "none", "--force", "--json", "--quiet")
CONTENDERS = {"lsg": (), "lsg fp32": ("--precision", "fp32"), "spikingjelly": (), "spikingjelly-best": ("--best",)}
Runs = dict[str, list[dict[str, Any]]]


def command(name: str, work: Path, data: Path, width: float = WIDTH, epochs: int = EPOCHS) -> list[str]:
    """Module and arguments of a contender's training."""
    own = CONTENDERS[name]
    if name.startswith("lsg"):
        sizes = ("--width-multiplier", str(width), "--epochs", str(epochs), "--batch-size", str(BATCH))
        return ["lsgcli", "train", *frames_of(work, data), *sizes, *LSG, "--out", str(work / "run"), *own]
    return ["benchmarks.epoch_peer", str(work / "peer"), "--width", str(width), "--epochs", str(epochs), *own]


def preparing(work: Path, data: Path) -> dict[str, list[str]]:
    """Module and arguments that make frames of recordings."""
    return {
        "lsg": ["lsgcli", "data", "prepare", *frames_of(work, data), "--quiet"],
        "spikingjelly": ["benchmarks.epoch_peer", str(work / "peer"), "--prepare", str(data)],
    }


def frames_of(work: Path, data: Path) -> tuple[str, ...]:
    """lsg's options of its frames."""
    return (*FRAMES, "--data-dir", str(data), "--cache-dir", str(work / "cache"))


def run(module: Sequence[str]) -> dict[str, Any]:
    """Run a module of Python to its end: ``seconds``, ``peak_bytes`` of its processes, and the lines of JSON that it printed."""
    peak = 0
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        begin = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", *module], cwd=ROOT, stdout=output, stderr=errors)
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SAMPLING)
        seconds = time.perf_counter() - begin
        for file in (output, errors):
            file.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(module)}: ended with status {process.returncode}\n{errors.read()}")
        lines = [json.loads(line) for line in output if line.startswith("{")]
    return {"seconds": seconds, "peak_bytes": peak, "lines": lines}


def memory(process: int) -> int:
    """Bytes of a process and its descendants, each shared page divided by the number of processes that share it; 0 after its end."""
    with contextlib.suppress(OSError):
        return kilobytes(f"/proc/{process}/smaps_rollup", "Pss") * 1024 + sum(map(memory, children(process)))
    return 0


def children(process: int) -> Iterator[int]:
    """The processes that a process started."""
    for task in Path(f"/proc/{process}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


def trained(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """What a run of a contender took, and learned."""
    lines = found.pop("lines")
    epochs = [line for line in lines if "test_accuracy" in line and "epoch" in line]
    steps = next((line["steps"] for line in lines if line.get("event") == "start"), 0)
    samples = steps * BATCH * len(epochs) if name.startswith("lsg") else sum(line["samples"] for line in epochs)
    inside = sum(line["seconds"] for line in epochs)
    return {**found, "epochs_seconds": inside, "samples": samples, "test_accuracy": epochs[-1]["test_accuracy"]}


def tables(record: dict[str, Any]) -> list[Table]:
    """Times, ratios of lsg to the others, and the time that frames take."""
    runs: Runs = record["runs"]
    rounds = len(next(iter(runs.values())))
    head = ("contender", "s", "quartiles", "samples/s", "s in epochs", "peak MB", "test accuracy")
    times = Table(f"{EPOCHS} epochs of {record['recordings']:,} recordings: {rounds} rounds", head)
    for name, found in runs.items():
        seconds, inside = (spread([one[key] for one in found]) for key in ("seconds", "epochs_seconds"))
        quartiles = f"{seconds['low']:.4g} to {seconds['high']:.4g}"
        accuracy = f"{100 * statistics.median(one['test_accuracy'] for one in found):.1f} %"
        peak, speed = megabytes(max(one["peak_bytes"] for one in found)), found[0]["samples"] / seconds["median"]
        times.rows.append((name, seconds["median"], quartiles, speed, inside["median"], peak, accuracy))
    ratios = Table(
        "Ratios over rounds", ("", "compared with", "speed ratio", "95 % interval", "in epochs", "peak memory ratio")
    )
    for ours in (name for name in runs if name.startswith("lsg")):
        for other in (name for name in runs if not name.startswith("lsg")):
            whole, inside = (
                ratio([one[key] for one in runs[other]], [one[key] for one in runs[ours]])
                for key in ("seconds", "epochs_seconds")
            )
            peaks = (max(one["peak_bytes"] for one in runs[name]) for name in (ours, other))
            interval = f"{whole['low']:.2f} to {whole['high']:.2f}"
            cells = (f"**{whole['ratio']:.2f} x**", interval, f"{inside['ratio']:.2f} x", f"{next(peaks) / next(peaks):.2f} x")
            ratios.rows.append((ours, other, *cells))
    frames = Table("Frames of all recordings, once", ("", "s", "peak MB"))
    for name, found in record["frames"].items():
        frames.rows.append((name, found["seconds"], megabytes(found["peak_bytes"])))
    return [times, ratios, frames]


def measure(data: Path, names: Sequence[str], rounds: int, sizes: dict[str, Any], done: Callable[[Any], Any]) -> dict[str, Any]:
    """Frames, then runs, round after round; ``done`` is called with the record after each."""
    record: dict[str, Any] = {"recordings": len(list(data.glob("Train/*/*.bin"))), "runs": {name: [] for name in names}}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        made = {name: run(module) for name, module in preparing(work, data).items()}
        record["frames"] = {name: {key: found[key] for key in ("seconds", "peak_bytes")} for name, found in made.items()}
        for precision in ("fp32", "auto"):  # kernels
            run([*command("lsg", work, data, **sizes), "--precision", precision, "--dry-run"])
        for round_ in range(rounds):
            for name in random.Random(round_).sample(names, len(names)):
                record["runs"][name].append(trained(name, run(command(name, work, data, **sizes))))
            if len({one["samples"] for found in record["runs"].values() for one in found}) > 1:
                raise SystemExit("contenders trained on different numbers of samples")
            done(record)
    return record


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of N-MNIST's recordings")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="default: %(default)s")
    parser.add_argument(
        "--quick", action="store_true", help="1 round of 1 epoch at 1/16 of the channels: a look, kept under another name"
    )
    options = parser.parse_args()
    names = options.contenders.split(",")
    if unknown := [name for name in names if name not in CONTENDERS]:
        parser.error(f"unknown contender {', '.join(unknown)}; there are {', '.join(CONTENDERS)}")
    name = "epoch-quick" if options.quick else "epoch"
    rounds, sizes = (1, {"width": 1 / 16, "epochs": 1}) if options.quick else (options.rounds, {})
    about = {"machine": machine("spikingjelly", "numba")}
    record = measure(options.data.resolve(), names, rounds, sizes, lambda record: write(name, {**about, **record}))
    show(tables(record))
    print(write(name, {**about, **record}), file=sys.stderr)


if __name__ == "__main__":
    main()
