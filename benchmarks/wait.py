"""Time that training waits for data: VGGSNN at a quarter of the channels on simulated CIFAR10-DVS, with cached frames.

    python -m benchmarks.wait --images FOLDER     # of CIFAR-10's training images, a class per folder; recordings are simulated from them

Epochs are those of ``lsg train`` with the preset, except for the given settings. The waiting time per step is measured around the
iterator of batches, without evaluation. "Nothing ahead" is the same epoch without prefetching. No other programs should run. The
record is written to ``benchmarks/results/wait.json``.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.bench.measuring import spread
from benchmarks.measuring import machine, write
from benchmarks.simulate import simulate_folder
from benchmarks.tables import Table, show

WIDTH = 0.25


class Timed:
    """An iterable that says how long whoever goes through it waited for each item, and for how long it went through it.

    Args:
        items: with a length.
        clock: seconds.
    """

    def __init__(self, items: Any, clock: Callable[[], float] = time.perf_counter):
        self.items, self.clock = items, clock
        self.waited: list[float] = []
        self.total = 0.0

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        begin = before = self.clock()
        for item in self.items:
            self.waited.append(self.clock() - before)
            yield item
            before = self.clock()
        self.waited.append(self.clock() - before)  # until it is known that there are no more
        self.total = self.clock() - begin


def epochs(settings: dict[str, Any], folder: Path) -> tuple[list[Timed], list[dict[str, Any]]]:
    """Train as ``lsg train`` does; the batches of every epoch, timed, and the run's own metrics."""
    from lsgcli.config.resolve import resolve
    from lsgcli.data.prepare import prepare
    from lsgcli.store.rundir import RunDir
    from lsgcli.system.device import set_up
    from lsgcli.training.loop import Trainer
    from lsgcli.training.signals import StopRequest

    given: list[Timed] = []

    class Watched(Trainer):
        def _batches(self, start: int = 0) -> Any:
            given.append(Timed(super()._batches(start)))
            return given[-1]

    config = resolve(settings, environment={})
    compute = set_up(config)
    with RunDir(folder) as run:
        Watched(config, prepare(config), compute, run, lambda record: None, StopRequest()).train()
        metrics = [json.loads(line) for line in run.metrics_file.read_text(encoding="utf-8").splitlines()]
    return [each for each in given if each.total], metrics  # the trainer also asks for one to see how long it is


def share(timed: Iterable[Timed]) -> dict[str, Any]:
    """Of the time spent in training steps, what they waited for data: per epoch, and the first batch of each apart."""
    timed = list(timed)
    return {
        "share": spread([sum(each.waited) / each.total for each in timed]),
        "share_without_first": spread([sum(each.waited[1:]) / each.total for each in timed]),
        "seconds": spread([each.total for each in timed]),
        "steps": len(timed[0].waited) - 1,
        "longest_wait": max(max(each.waited) for each in timed),
    }


def tables(record: dict[str, Any]) -> list[Table]:
    """Shares of an epoch."""
    settings = record["settings"]
    sizes = f"batch {settings['batch_size']}, {settings['precision']}, augmentation {settings['augment']}"
    title = f"Waiting for data: VGGSNN x {settings['width_multiplier']:g}, T={settings['T']}, {settings['size']} px, {sizes}"
    head = ("", "share waiting", "excluding the first batch", "epoch, s", "steps", "longest wait, ms")
    table = Table(title, head)
    for name, found in record["runs"].items():
        shares = (f"{100 * found[key]['median']:.2f} %" for key in ("share", "share_without_first"))
        table.rows.append((name, *shares, found["seconds"]["median"], found["steps"], 1e3 * found["longest_wait"]))
        if said := found.get("data_wait"):
            table.rows.append((f"{name}, as reported by the run", f"{100 * said['median']:.2f} %", "", "", "", ""))
    return [table]


def main() -> None:
    """Simulate, prepare, train, and say how long steps waited."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of CIFAR-10's images, a class per folder")
    parser.add_argument("--per-class", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--width", type=float, default=WIDTH)
    parser.add_argument("-T", type=int, help="default: the preset's")
    parser.add_argument("--size", type=int, help="default: the preset's")
    parser.add_argument("--batch", type=int, help="default: the preset's")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--workers", type=int, help="batches made ahead; default: that of lsg train")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        simulate_folder(options.images, work / "recordings", options.per_class)
        settings = {
            "dataset": "cifar-dvs",
            "data_dir": str(work / "recordings"),
            "cache_dir": str(work / "cache"),
            "width_multiplier": options.width,
            "epochs": options.epochs,
            "precision": options.precision,
            "split": "stratified",
            **{name: getattr(options, key) for name, key in (("T", "T"), ("size", "size"), ("batch_size", "batch"))},
        }
        settings = {name: value for name, value in settings.items() if value is not None}
        record: dict[str, Any] = {"machine": machine("numba"), **measure(settings, work, options.workers)}
    show(tables(record))
    print(write("wait", record), file=sys.stderr)


def measure(settings: dict[str, Any], work: Path, workers: int | None) -> dict[str, Any]:
    """The settings in full, and the runs: batches made ahead, and not."""
    from lsgcli.config.resolve import resolve

    complete = resolve(settings, environment={}).to_dict()
    ahead = complete["workers"] if workers is None else workers
    epochs({**settings, "epochs": 1, "workers": ahead}, work / "first")  # frames into the cache, and kernels
    runs = {}
    for name, count in ((f"{ahead} batches ahead", ahead), ("nothing ahead", 0)):
        timed, metrics = epochs({**settings, "workers": count}, work / name.replace(" ", "-"))
        runs[name] = share(timed)
        if all("data_wait" in line for line in metrics):
            runs[name]["data_wait"] = spread([line["data_wait"] for line in metrics])
    kept = ("T", "size", "width_multiplier", "batch_size", "augment", "precision", "epochs")
    return {"settings": {name: complete[name] for name in kept}, "threads": len(os.sched_getaffinity(0)), "runs": runs}


if __name__ == "__main__":
    main()
