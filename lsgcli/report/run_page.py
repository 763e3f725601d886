"""``report.html``, the page of a run: what came out, of which command, how it went, and what the network does."""

import base64
import datetime
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lsgcli import registry
from lsgcli.config.resolve import differing
from lsgcli.config.run import FIELDS, RunConfig, option_name, option_words, without_effect
from lsgcli.data.bundle import DataBundle
from lsgcli.report import heatmaps
from lsgcli.report.figures import View, curves
from lsgcli.report.page import document, gradient_flow
from lsgcli.report.sheet import event_tiles, image_tile, spread
from lsgcli.report.terminal import shown
from lsgcli.runs.compare import final_flow
from lsgcli.runs.report import Status
from lsgcli.store.flows import history
from lsgcli.store.rundir import LAST, read_config, read_facts, read_metrics
from lsgcli.system.schema import Record

if TYPE_CHECKING:
    from lsgcli.training.evaluate import Evaluation

SHOWN = 6  # right and wrong samples each
SIDE = 96  # of their pictures, pixels
Epochs = Sequence[Record]


def run_page(path: Path, status: Status) -> str:
    """The page of a run.

    Args:
        path: run directory with configuration and records of its epochs.
        status: what is known besides these files.

    Raises:
        ConfigError: a file is damaged.
    """
    config = read_config(path)
    epochs = read_metrics(path)
    facts: Record = {**read_facts(path)}
    flow = None if status.state in ("running", "stopped") else final_flow(path, status.state)
    if flow:
        flow = {**flow, "checkpoint": "", "method": config.method, "history": None}
    split = "val" if any("val_accuracy" in epoch for epoch in epochs) else "test"
    classes = tuple(facts.get("classes", ()))
    tested = status.tested
    counts = tested.confusion.tolist() if tested else []
    own = differing(config)
    settings = []
    for name, value in config.to_dict().items():
        settings.append((option_name(name), value, name in own, without_effect({name: value}, [config])))
    layers = registry.get("picture", "training")
    embedded = {"data": {"end": status.end, "epochs": epochs, "flow": flow}} if status.end else {}
    return document(
        "run.html",
        embedded,
        now=f"{datetime.datetime.now(datetime.UTC):%H:%M:%S}",
        path=path,
        quoted=shlex.quote(str(path)),
        status=status,
        config=config,
        facts=facts,
        say=shown,
        command=_command(config, facts),
        split=split,
        best=max(reversed(epochs), key=lambda epoch: epoch.get(f"{split}_accuracy") or 0.0) if epochs else None,
        last=epochs[-1] if epochs else None,
        duration=datetime.timedelta(seconds=round(sum(epoch.get("seconds", 0.0) for epoch in epochs))),
        charts=_charts(epochs, config, split) if epochs else [],
        layers=("training", layers, layers.views([{"history": history(path / LAST)}], [""])),
        classes=classes,
        counts=counts,
        matrix=heatmaps.confusion(counts, classes) if tested else None,
        pairs=heatmaps.pairs(counts, classes),
        samples=_samples(tested, status.bundle) if tested and status.bundle else {},
        flow=flow,
        settings=settings,
        **(gradient_flow([flow], [config.method]) if flow else {"shown": [], "checkpoints": []}),
    )


def _command(config: RunConfig, facts: Record) -> str:
    """The command that repeats the run."""
    names = {"dataset", "method", "seed", *differing(config)}
    words = [word for name in FIELDS if name in names for word in option_words(name, getattr(config, name))]
    words += [word for file in facts.get("plugins") or () for word in ("--plugin", file)]
    untested = "test" not in facts.get("samples", {"test"})
    return shlex.join(["lsg", "train", *words, *["--no-test"] * untested])


def _charts(epochs: Epochs, config: RunConfig, split: str) -> list[View]:
    """Accuracy, loss and firing rate over the epochs. A loss has an axis with another one only if both are the same quantity."""

    def chart(title: str, keys: dict[str, str], note: str = "") -> View:
        return curves(title, {name: [[epoch.get(key) for epoch in epochs]] for name, key in keys.items()}, note=note)

    part = "validation" if split == "val" else "test"
    training = {"training": "train_loss"}
    tested = {part: f"{split}_loss"}
    if config.loss == "ce" and not (config.label_smoothing or config.mixup or config.cutmix or config.rate_target):
        losses = [chart("Loss", training | tested, "Both: cross-entropy of mean logits.")]
    else:
        losses = [
            chart("Training loss", training, f"The loss {config.loss}, with augmentation."),
            chart(f"{part.capitalize()} loss", tested, "Cross-entropy of mean logits."),
        ]
    return [
        chart("Accuracy", {"training": "train_accuracy", part: f"{split}_accuracy"}),
        *losses,
        chart(
            "Firing rate", {"mean over layers": "firing_rate"}, "Spikes per neuron and timestep in the last step of each epoch."
        ),
    ]


def _samples(tested: "Evaluation", bundle: DataBundle) -> dict[str, list[Record]]:
    """A few samples of the test part, with pictures: the wrong answers of highest probability, and right ones of different classes."""
    split = bundle.parts["test"]
    classes = bundle.classes
    predictions = tested.answers[:, 0].numpy().astype(int)
    probabilities = tested.answers[:, 1].numpy()
    right = np.flatnonzero(predictions == split.y)
    wrong = np.flatnonzero(predictions != split.y)
    chosen = {
        "Wrong, with the highest probability": wrong[np.argsort(-probabilities[wrong], kind="stable")][:SHOWN],
        "Right": right[spread(split.y[right].tolist(), SHOWN)],
    }
    samples: dict[str, list[Record]] = {}
    for heading, rows in chosen.items():
        samples[heading] = []
        for row in rows:
            one = split.part(np.array([row]))
            pictures = [image_tile(one.x[0])] if bundle.static else event_tiles(one.x[0])
            samples[heading].append(
                {
                    "picture": _address(pictures),
                    "frames": len(pictures),
                    "key": one.keys[0],
                    "label": classes[one.y[0]],
                    "prediction": classes[predictions[row]],
                    "probability": probabilities[row],
                }
            )
    return samples


def _address(pictures: Sequence[np.ndarray]) -> str:
    """Pictures (H, W, 3), one below the other, as a ``data:`` address of a PNG of at most twice the size that it is shown in."""
    image = Image.fromarray(np.concatenate(pictures))
    content = io.BytesIO()
    image.thumbnail((2 * SIDE, 2 * SIDE * len(pictures)))
    image.save(content, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
