"""Terminal output: progress bars, one line per epoch, tables."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

from lsgcli.output import clean

UNBOUNDED = 1 << 16  # columns of a file or pipe, so that lines are not wrapped
MIB = 1 << 20


class Table(RichTable):
    """A table of plain text. If the terminal is too narrow, each row becomes a block with one line per cell."""

    def add_column(self, header: RenderableType = "", **options: Any) -> None:  # type: ignore[override]
        """As rich, without markup."""
        super().add_column(plain(header), **options)

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """As rich, without markup."""
        super().add_row(*map(plain, cells), **options)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines of the table, or the blocks."""
        if Measurement.get(console, options.update(max_width=UNBOUNDED), self).maximum <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        yield from filter(None, [plain(self.title)])
        heads = [str(column.header) for column in self.columns]
        for first, *others in zip(*(column.cells for column in self.columns), strict=True):
            yield Text(str(first), overflow="fold")
            for head, cell in zip(heads[1:], others, strict=True):
                yield Text(f"  {head}: {cell}" if self.show_header else f"  {cell}", overflow="fold")
        yield from filter(None, [plain(self.caption)])


def plain(text: Any) -> Text:
    """Text without markup and control characters."""
    return text if isinstance(text, Text) else Text(clean(str(text or "")))


def show(parts: Iterable[RenderableType]) -> None:
    """Print tables and lines to stdout."""
    out = console(sys.stdout)
    for part in parts:
        out.print(clean(part) if isinstance(part, str) else part, soft_wrap=isinstance(part, str), markup=False)


def console(stream: IO[str]) -> Console:
    """A console for stdout or stderr, with colours only on a terminal (and not with NO_COLOR), without markup.

    Its width is COLUMNS if set, else that of the terminal; a file or pipe has unlimited width.
    """
    width = None if stream.isatty() or "COLUMNS" in os.environ else UNBOUNDED
    return Console(file=stream, highlight=False, soft_wrap=False, width=width, emoji=False)


def progress_bar(quiet: bool = False) -> Progress:
    """A bar on stderr with elapsed and remaining time; only shown on a terminal, and not if quiet."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console(sys.stderr),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
        expand=True,
    )


class Preparation:
    """Progress of data preparation with its rate; call it with a description, the amount done, and the total."""

    def __init__(self, bar: Progress):
        self.bar = bar
        self.tasks: dict[str, TaskID] = {}  # by description

    def __call__(self, what: str, done: int, total: int) -> None:
        """Samples, or bytes of a file that is downloaded."""
        from lsgcli.data.prepare import PREPARING  # imports numpy

        scale, form = (1, "{:.0f}/s") if what == PREPARING else (MIB, "MiB, {:.1f}/s")
        if what not in self.tasks:
            self.tasks[what] = self.bar.add_task(what, total=total // scale, note="")
        task = self.tasks[what]
        note = form.format(self.bar.tasks[task].speed or 0.0)
        self.bar.update(task, completed=done // scale, total=total // scale, note=note, visible=done < total)


@contextmanager
def preparing(quiet: bool) -> Iterator[Preparation]:
    """A progress callback for data preparation."""
    with progress_bar(quiet) as bar:
        yield Preparation(bar)


class TrainingDisplay:
    """Display of a run on stderr: one line per epoch, bars on a terminal, nothing if quiet.

    Call it with the records emitted by the training loop.
    """

    def __init__(self, quiet: bool):
        self.bar = progress_bar(quiet)
        self.preparing = Preparation(self.bar)
        self.out = self.bar.console  # another console would interfere with the bar
        self.out.quiet = quiet
        self.epochs = 0
        self.steps: TaskID  # from the start of training

    def __enter__(self) -> "TrainingDisplay":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def __call__(self, record: dict[str, Any]) -> None:
        """Show a record; events without a display are ignored."""
        if show := getattr(self, f"_on_{record['event']}", None):
            show(record)

    def say(self, text: str) -> None:
        """Print text."""
        self.out.print(clean(text), soft_wrap=True, markup=False)

    def _on_start(self, record: dict[str, Any]) -> None:
        self.epochs = record["epochs"]
        self.say(f"run {record['run']}")
        self.say(f"computing {record['computing']}")
        if record["epoch"] == 0 and (source := record["sources"].get("init_from")):
            self.say(taken_text(source))
        total = record["epochs"] * record["steps"]
        self.steps = self.bar.add_task("training", total=total, completed=record["epoch"] * record["steps"], note="")

    def _on_extended(self, record: dict[str, Any]) -> None:
        self.say(
            f"extended from {record['planned']} to {record['epochs']} epochs: from epoch {record['from_epoch'] + 1} on, the learning rate "
            f"follows a cosine over {record['epochs']} epochs, starting at {record['lr']:.3g}"
        )

    def _on_step(self, record: dict[str, Any]) -> None:
        done = record["epoch"] * record["steps"] + record["step"]
        self.bar.update(self.steps, completed=done, note=f"loss {record['loss']:.3f}")

    def _on_epoch(self, record: dict[str, Any]) -> None:
        split = "val" if "val_accuracy" in record else "test"
        betas = [layer["beta"] for layer in record["layers"]]
        beta = f"{min(betas):.2f}..{max(betas):.2f}" if betas else "-"
        self.say(
            f"epoch {record['epoch'] + 1:>3}/{self.epochs}  loss {record['train_loss']:.4f}  train {record['train_accuracy']:.4f}  "
            f"{split} {record[f'{split}_accuracy']:.4f}{' *' if record['best'] else '  '}  "
            f"beta {beta}  {record['seconds']:.1f} s"
            f"  data {record['data_wait']:.0%}"
        )

    def _on_end(self, record: dict[str, Any]) -> None:
        chosen = "validation split" if record["best_chosen_on"] == "val" else "test set, which is optimistic"
        self.say(
            f"test accuracy: last epoch {record['test_accuracy_last']:.4f}, best epoch {record['test_accuracy_best']:.4f} "
            f"(epoch {record['best_epoch'] + 1}, chosen on the {chosen})"
        )

    def _on_diverged(self, record: dict[str, Any]) -> None:
        from lsgcli.report.flow_terminal import lines

        self.say(f"diverged in {record['message']}")
        self.say(record["cause"])
        for line in lines([record["table"]], self.out):
            self.out.print(line)


def taken_text(source: Mapping[str, Any]) -> str:
    """Description of the tensors initialised from ``--init-from``, as returned by :func:`lsgcli.training.start.start`."""
    text = [f"initialised {len(source['taken'])} tensors by name from --init-from (sha256 {source['sha256'][:12]})"]
    text += [
        f"  new: {name} {tuple(one['shape'])}; in the checkpoint: {'none' if one['found'] is None else tuple(one['found'])}"
        for name, one in source["new"].items()
    ]
    text += [f"  not used: {name} {tuple(shape)}" for name, shape in source["unused"].items()]
    return "\n".join(text)
