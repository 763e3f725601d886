"""What critics ask of a trained network: whether it needs the order of frames, what its energy is, and what a choice of epoch on the test set adds.

    python -m benchmarks.critics --data-dir FOLDER        # with nmnist-dev/ (Train/<digit>/*.bin, Test/...) and dvs128-objects-dev/ (train/<class>/*.aedat, test/...)
    python -m benchmarks.critics --collect                # only the record, from the finished runs

Trains small networks on four kinds of data, and one with a penalty on firing rates, and evaluates them with ``--time-test`` and ``--synops``. The
words are simulated spikes in the format of SHD: three phonemes, each a band of channels, and every word has another of which it is the reverse,
so that no network without the order of frames exceeds 50 %. Finished runs are not repeated. The record is
``critics``.
"""

import argparse
import itertools
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.measuring import machine, read, without_folders, write
from benchmarks.tables import Table, show
from lsgcli.data.datasets.published import SPOKEN, Shd
from lsgcli.store.rundir import METRICS, RESULT

COMMON = "--test-every-epoch --threads 1 --seed 0"
SMALL = "--width-multiplier 0.125 --epochs 12"
RUNS = {
    "digits-dvs": f"--dataset digits-dvs {SMALL}",
    "N-MNIST": f"--dataset n-mnist --data-dir nmnist-dev --val-fraction 0.1 {SMALL}",
    "DVS objects": f"--dataset event-folder --data-dir dvs128-objects-dev --size 32 -T 10 --batch-size 16 {SMALL}",
    "simulated words": "--dataset shd --data-dir words -T 35 --decay 0.9 --decay-per channel --epochs 40",
    "digits-dvs, --rate-target 0.05": f"--dataset digits-dvs --rate-target 0.05 {SMALL}",
}
PHONEMES, LENGTH, BAND = 5, 0.1, 30.0  # bands of channels; seconds of a phoneme; standard deviation of its channels
SAMPLES, SPIKES = {"train": 40, "test": 15}, 300  # of a word; of a phoneme


def words() -> Iterator[tuple[int, ...]]:
    """Three different phonemes a word; each second word is the reverse of the one before."""
    for word in itertools.combinations(range(PHONEMES), 3):
        yield word
        yield word[::-1]


def simulate(folder: Path) -> None:
    """Write ``shd_train.h5`` and ``shd_test.h5``."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, samples in SAMPLES.items():
        generator = np.random.default_rng(list(SAMPLES).index(split))
        times, units, labels = [], [], []
        for label, word in enumerate(words()):
            for _ in range(samples):
                starts = np.cumsum([0.0, *generator.uniform(0.8, 1.1, len(word))[:-1]]) * LENGTH
                t = np.concatenate([start + LENGTH * generator.uniform(size=SPIKES) for start in starts])
                centres = (np.array(word) + 0.5) * Shd.sensor_size[0] / PHONEMES + generator.normal(0, 15, len(word))
                x = np.concatenate([generator.normal(centre, BAND, SPIKES) for centre in centres])
                order = np.argsort(t)
                times.append(t[order].astype(np.float32))
                units.append(np.clip(x[order], 0, Shd.sensor_size[0] - 1).astype(np.uint16))
                labels.append(label)
        assert len(labels) == samples * len(SPOKEN)
        with h5py.File(folder / f"shd_{split}.h5", "w") as file:
            for name, rows, kind in (("times", times, np.float32), ("units", units, np.uint16)):
                stored = file.create_dataset(f"spikes/{name}", len(rows), h5py.vlen_dtype(kind))
                for index, row in enumerate(rows):
                    stored[index] = row
            file["labels"] = labels


def run(name: str, data: Path, out: Path) -> dict[str, Any]:
    """Train and evaluate a network, unless that is done."""
    path, words = out / name.replace(" ", "-").replace(",", ""), shlex.split(f"{RUNS[name]} {COMMON}")
    if "--data-dir" in words:
        at = words.index("--data-dir") + 1
        words[at] = str(data / words[at])
    commands = [["lsg", "train", *words, "--out", str(path), "-q"]]
    if not (path / RESULT).exists():
        subprocess.run(commands[0], check=True, stdout=subprocess.DEVNULL)
    evaluated = path / "critics.json"
    commands.append(["lsg", "eval", str(path), "--time-test", "--synops", "--json", "-q"])
    if not evaluated.exists():
        evaluated.write_bytes(subprocess.run(commands[1], check=True, stdout=subprocess.PIPE).stdout)
    result, record = (json.loads(file.read_text(encoding="utf-8")) for file in (path / RESULT, evaluated))
    lines = (path / METRICS).read_text(encoding="utf-8").splitlines()
    return {
        "commands": [" ".join(map(without_folders, command)) for command in commands],
        "samples": record["samples"],
        "time_test": record["time_test"],
        "synops": {key: record["synops"][key] for key in ("firing_rate", "total", "memory")},
        **{key: result[key] for key in ("accuracy", "best_test_accuracy", "inflation", "best_epoch")},
        "test_accuracies": [json.loads(line)["test_accuracy"] for line in lines],
    }


def tables(record: dict[str, Any]) -> list[Table]:
    """Order of frames; energy by term; choice of the epoch."""
    order = Table(
        "Test accuracy in percent by order of frames; difference from frames in order, 95 % interval", ["", "in order"]
    )
    energy = Table("Energy of a sample, nJ", ["", "bits", "network"])
    chosen = Table("Chosen on the test set, percent", ["", "epoch of the validation split", "best test epoch", "inflation"])
    for name, found in record["runs"].items():
        others = found["time_test"]["frames"]
        order.head += [other for other in others if other not in order.head]
        cells = [f"{100 * one['accuracy']:.1f}; {shown(one)}" for one in others.values()]
        order.rows.append([f"{name} ({found['samples']})", f"{100 * found['time_test']['accuracy']:.1f}", *cells])
        for one in found["synops"]["memory"]:
            for network in ("spiking", "ann"):
                terms = one[network]
                energy.head += [term for term in terms if term not in energy.head]
                energy.rows.append(
                    [name, one["bits"], network, *(f"{terms.get(term, 0) / 1e3:.1f}" for term in energy.head[3:])]
                )
        chosen.rows.append([name, *(f"{100 * found[key]:.2f}" for key in ("accuracy", "best_test_accuracy", "inflation"))])
    return [order, energy, chosen]


def shown(one: dict[str, Any]) -> str:
    """A difference with its interval, in points."""
    interval = one["interval"]
    between = "" if interval is None else f" ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})"
    return f"{100 * one['difference']:+.1f}{between}"


def main() -> None:
    """Run what is missing, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder of the recordings")
    parser.add_argument("--out", type=Path, default=Path("runs") / "critics", help="folder of the runs")
    parser.add_argument("--collect", action="store_true", help="run nothing, only print the tables of the record")
    options = parser.parse_args()
    if not options.collect:
        simulate(options.data_dir / "words")
        runs = {}
        for name in RUNS:
            print(name, file=sys.stderr)
            runs[name] = run(name, options.data_dir, options.out)
        write("critics", {"machine": machine("numba"), "runs": runs})
    show(tables(read("critics") or sys.exit("found no record")))


if __name__ == "__main__":
    main()
