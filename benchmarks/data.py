"""Speed of event data: frames compared with tonic, reading, preparation of the cache, and batches from the cache.

    python -m benchmarks.data --images FOLDER     # of CIFAR-10's training images, a class per folder; recordings are simulated from them

No other programs should run. The record is written to ``benchmarks/results/data.json``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.bench.measuring import spread
from benchmarks.measuring import interleaved, machine, write
from benchmarks.simulate import simulate_folder

EVENTS, T, SENSOR = 200_000, 10, 128
BATCH, SIZE = 32, 48


def recording(seed: int = 0) -> Any:
    """Uniformly random events, sorted by time."""
    from lsgcli.data.events import Events

    rng = np.random.default_rng(seed)
    x, y = (rng.integers(0, SENSOR, EVENTS).astype(np.uint16) for _ in "xy")
    t = np.sort(rng.integers(0, 1_300_000, EVENTS))
    return Events(x, y, t, rng.random(EVENTS) < 0.5, (SENSOR, SENSOR))


def frames() -> dict[str, Any]:
    """Milliseconds from 200,000 events to frames, with tonic's ToFrame and lsg at the same size, and with lsg at 48 pixels."""
    from tonic.transforms import ToFrame

    from lsgcli.config.data import DataConfig
    from lsgcli.data.frames import frames

    events = recording()
    theirs = np.empty(EVENTS, np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)]))
    theirs["x"], theirs["y"], theirs["t"], theirs["p"] = events.x, events.y, events.t, events.on

    def ours(size: int, slicing: str, resize: str) -> Any:
        settings = DataConfig(T=T, size=size, slicing=slicing, resize=resize)
        return lambda: frames(events, (SENSOR, SENSOR), settings)

    by_time = ToFrame(sensor_size=(SENSOR, SENSOR, 2), n_time_bins=T)
    by_count = ToFrame(sensor_size=(SENSOR, SENSOR, 2), n_event_bins=T)
    found = interleaved(
        {
            "tonic ToFrame, time": lambda: by_time(theirs),
            "lsg, time": ours(SENSOR, "time", "bin"),
            "tonic ToFrame, count": lambda: by_count(theirs),
            "lsg, count": ours(SENSOR, "count", "bin"),
            "lsg, count, 48 px bilinear": ours(SIZE, "count", "bilinear"),
            "lsg, count, 48 px bin": ours(SIZE, "count", "bin"),
        },
        rounds=100,
    )
    ratio = {kind: found[f"tonic ToFrame, {kind}"]["median"] / found[f"lsg, {kind}"]["median"] for kind in ("time", "count")}
    return {"seconds": found, "times_tonic": ratio}


def reading(recordings: Path) -> dict[str, Any]:
    """Milliseconds to read one AEDAT 2.0 recording from the page cache, and to convert it to frames."""
    from lsgcli.config.data import DataConfig
    from lsgcli.data.frames import frames
    from lsgcli.data.readers.base import read

    path = min(recordings.rglob("*.aedat"), key=lambda path: abs(path.stat().st_size - 8 * EVENTS))
    events = read(path)
    settings = DataConfig(T=T, size=SIZE, resize="bilinear")
    found = interleaved(
        {"read": lambda: read(path, (128, 128)), "frames": lambda: frames(events, (128, 128), settings)}, rounds=50
    )
    return {"events": len(events), "bytes": path.stat().st_size, "seconds": found}


def preparing(recordings: Path, work: Path, rounds: int) -> dict[str, Any]:
    """Recordings per second from AEDAT 2.0 to the cache, with `lsg data prepare`."""
    rates, record = [], {}
    for index in range(rounds):
        record = lsg("data", "prepare", "--dataset", "cifar-dvs", "--data-dir", recordings, "--cache-dir", work / str(index))
        rates.append(sum(part["recordings"] for part in record["parts"].values()) / record["seconds"])
    count = sum(part["recordings"] for part in record["parts"].values())
    return {"recordings": count, "recordings_per_second": spread(rates), "bytes": record["parts"]["train"]["bytes"]}


def batching(recordings: Path, cache: Path) -> dict[str, Any]:
    """Microseconds per sample from the cache to a float32 batch of 32, T=10, 48 px."""
    from lsgcli.config.resolve import resolve
    from lsgcli.data.batches import batches
    from lsgcli.data.prepare import prepare

    found = {}
    for resize in ("bilinear", "bin"):
        given = {"dataset": "cifar-dvs", "data_dir": str(recordings), "cache_dir": str(cache), "resize": resize}
        bundle = prepare(resolve({**given, "val_fraction": 0.0}, environment={}))
        assert bundle.train is not None
        for augment in ("none", "flip,roll", "flip,nda"):
            stream = batches(bundle, bundle.train, BATCH, shuffle=True, drop_last=True, augment=augment)
            indices = iter(np.tile(np.arange(len(stream)), 10_000).tolist())
            seconds = interleaved({"batch": lambda s=stream, i=indices: s.batch(next(i))}, rounds=200)["batch"]
            found[f"{resize}, augment {augment}"] = {
                key: value if key == "n" else value / BATCH * 1e6 for key, value in seconds.items()
            }
    return found


def lsg(*words: object) -> dict[str, Any]:
    """The --json output of a command."""
    command = [sys.executable, "-m", "lsgcli", *map(str, words), "--json", "-q"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of CIFAR-10's images, a class per folder")
    parser.add_argument("--per-class", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the commands
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:  # as in a process that prepares recordings
        work = Path(folder)
        record: dict[str, Any] = {"machine": machine(), "frames": frames()}
        record["simulating"] = simulate_folder(options.images, work / "recordings", options.per_class)
        record["reading"] = reading(work / "recordings")
        record["preparing"] = preparing(work / "recordings", work, options.rounds)
        record["batches"] = batching(work / "recordings", work / "0")
    print(json.dumps(record, indent=1))
    print(write("data", record), file=sys.stderr)


if __name__ == "__main__":
    main()
