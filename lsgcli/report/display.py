"""Display of a run on stderr: one line per epoch, and progress bars."""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import TaskID

from lsgcli.errors import clean
from lsgcli.report.findings import flow_lines
from lsgcli.report.terminal import Preparation, progress_bar
from lsgcli.store.rundir import REPORT
from lsgcli.system.schema import Record

# Messages, with fields of records.
EXTENDED = (
    "extended from {planned} to {epochs} epochs: from epoch {first} on, the learning rate follows the schedule of {epochs} epochs, starting "
    "at {lr:.3g}"
)
EPOCH = (
    "epoch {number:>3}/{of}  loss {train_loss:.4f}  train {train_accuracy:.4f}  {split} {accuracy:.4f}{mark}  beta {beta}  {seconds:.1f} s  "
    "data {data_wait:.0%}"
)
UNTESTED = "validation accuracy: best epoch {best_accuracy:.4f} (epoch {number})"  # without a test part
TESTED = "test accuracy: last epoch {test_accuracy_last:.4f}, best epoch {test_accuracy_best:.4f} (epoch {number}, chosen on the {part} set)"
TESTED_FP32 = "this is in the precision of the training; in fp32, as in `lsg eval`: {accuracy_fp32:.4f}"


@contextmanager
def _dispensable() -> Iterator[None]:
    """If stderr is on a full disk, or a terminal that was closed, the run continues without a display."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


class TrainingDisplay:
    """Display of a run on stderr: one line per epoch, bars on a terminal, nothing if quiet.

    Call it with the records emitted by the training loop.

    Args:
        title: printed first, if not empty.
    """

    def __init__(self, quiet: bool, title: str = ""):
        self.bar = progress_bar(quiet)
        self.preparing = Preparation(self.bar)
        self.out = self.bar.console  # another console would interfere with the bar
        self.out.quiet = quiet
        self.title = title
        self.epochs = 0
        self.steps: TaskID  # from the start of training

    def __enter__(self) -> "TrainingDisplay":
        self.bar.start()
        if self.title:
            self.say(self.title)
        return self

    def __exit__(self, *error: object) -> None:
        with _dispensable():
            self.bar.stop()

    def __call__(self, record: Record) -> None:
        """Show a record; events without a display are ignored."""
        if show := getattr(self, f"_on_{record['event']}", None):
            with _dispensable():
                show(record)

    def say(self, text: str) -> None:
        """Print text."""
        with _dispensable():
            self.out.print(clean(text), soft_wrap=True, markup=False)

    def _on_preparing(self, record: Record) -> None:
        self.preparing(record["what"], record["done"], record["total"])

    def _on_start(self, record: Record) -> None:
        self.epochs = record["epochs"]
        self.say(f"run {record['run']}")
        self.say(f"report {Path(record['run']) / REPORT}")
        self.say(f"computing {record['computing']}")
        if record["epoch"] == record["epochs"]:
            self.say(f"all {record['epochs']} epochs are done; to train longer, increase --epochs")
        source = record["sources"].get("init_from")
        if record["epoch"] == 0 and source:
            self.say(f"initialised {len(source['taken'])} tensors by name from --init-from (sha256 {source['sha256'][:12]})")
            for name, tensor in source["new"].items():
                found = "none" if tensor["found"] is None else tuple(tensor["found"])
                self.say(f"  new: {name} {tuple(tensor['shape'])}; in the checkpoint: {found}")
            for name, shape in source["unused"].items():
                self.say(f"  not used: {name} {tuple(shape)}")
        total = record["epochs"] * record["steps"]
        self.steps = self.bar.add_task("training", total=total, completed=record["epoch"] * record["steps"], note="")

    def _on_extended(self, record: Record) -> None:
        self.say(EXTENDED.format(first=record["from_epoch"] + 1, **record))

    def _on_step(self, record: Record) -> None:
        done = record["epoch"] * record["steps"] + record["step"]
        self.bar.update(self.steps, completed=done, note=f"loss {record['loss']:.3f}")

    def _on_epoch(self, record: Record) -> None:
        split = "val" if "val_accuracy" in record else "test"
        betas = [layer["beta"] for layer in record["layers"] if math.isfinite(layer["beta"])]  # NaN in neurons without decay
        beta = f"{min(betas):.2f}..{max(betas):.2f}" if betas else "-"
        accuracy = record[f"{split}_accuracy"]
        mark = " *" if record["best"] else "  "
        number = record["epoch"] + 1
        self.say(EPOCH.format(number=number, of=self.epochs, split=split, accuracy=accuracy, mark=mark, beta=beta, **record))

    def _on_end(self, record: Record) -> None:
        if record["accuracy"] is None:
            messages = [UNTESTED]
        else:
            messages = [TESTED]
            if "inflation" in record:
                points = f"{100 * record['inflation']:.2f} points"
                messages.append(f"the best of all epochs on the test part would flatter the run by {points}")
            if "accuracy_fp32" in record:
                messages.append(TESTED_FP32)
        part = "validation" if record["best_chosen_on"] == "val" else "test"
        for message in messages:
            self.say(message.format(number=record["best_epoch"] + 1, part=part, **record))

    def _on_diverged(self, record: Record) -> None:
        self.say(f"diverged in {record['message']}")
        self.say(record["cause"])
        for line in flow_lines([record["table"]], self.out) if record["table"]["layers"] else ():
            self.out.print(line)
