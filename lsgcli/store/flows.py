"""Gradient-flow records of a run, read from its directory. :mod:`lsgcli.analysis.measures` defines the fields.

Imports no torch.
"""

import os
from pathlib import Path
from typing import Annotated, Any, NotRequired, Required, TypedDict

from msgspec import Meta, defstruct

from lsgcli.errors import ConfigError, log
from lsgcli.store import rundir
from lsgcli.system import schema
from lsgcli.system.schema import Record

Number = float | None
Numbers = list[Number]
LIGHT = ("beta", "alpha", "coverage", "firing_rate", "grad_norm")  # numbers of every layer, at every epoch
MEASURED = (  # the other numbers of lsgcli.analysis.measures, of a full record
    "gamma",
    "sg_mean",
    "sg_sq_mean",
    "silent",
    "saturated",
    "u_mean",
    "u_std",
    "u_skew",
    "rho",
    "grad_ratio",
    "grad_relative",
    "grad_zero",
    "grad_zero_weight",
    "gain",
    "gain_between",
    "temporal_share",
    "snr",
    "mismatch",
    "xi",
    "presynaptic_silent",
    "sgv",
    "sgv_relative",
    "tgc",
)
HISTORY = LIGHT  # shown over training


Count = Annotated[int, Meta(ge=0)]


class Histogram(TypedDict):
    """Counts of u between ``edges``, and outside them."""

    edges: Annotated[list[float], Meta(min_length=2)]
    counts: list[Count]
    below: Count
    above: Count


_numbers: Any = [(name, Number, None) for name in (*LIGHT, *MEASURED)]
_others: Any = [
    *((name, dict[str, Number] | None, None) for name in ("u_std_predicted", "gain_predicted", "drift")),
    ("interval", tuple[Number, Number] | None, None),
    ("per_step", dict[str, Numbers | dict[str, Numbers]] | None, None),
    ("histogram", Histogram | None, None),
    ("verdict", str, ""),
    ("reason", str, ""),
]
_shown: Any = [("histogram", Histogram), ("verdict", str), *((name, Number) for name in LIGHT)]
Layer: Any = defstruct("Layer", [("name", str), *_numbers, *_others])
CompleteLayer: Any = defstruct("CompleteLayer", [("name", str), *_shown])
Timesteps = Annotated[int, Meta(ge=1, le=1024)]
Voltage = Annotated[float, Meta(gt=0)]


class Trace(TypedDict):
    """Potentials of a neuron."""

    role: str
    neuron: list[int]
    u: Numbers
    alpha: Annotated[Numbers, Meta(min_length=1)]


class LayerActivity(TypedDict):
    """Spikes and potentials of one sample in a layer."""

    name: str
    neurons: Count
    active: Count
    firing_rate: Number
    spikes: list[str]
    traces: list[Trace]


class Activity(TypedDict):
    """Activity of one sample."""

    sample: Count
    layers: list[LayerActivity]


class Line(rundir.Line):
    """A line of gradient-flow.jsonl: of an epoch, or of the batch that diverged, which has an ``event``."""

    layers: list[Layer]


class Full(TypedDict, total=False):
    """The content of gradient-flow.json, and of the line of a batch that diverged."""

    layers: Required[list[Layer]]
    T: Timesteps
    threshold: Voltage
    batches: int
    thresholds: dict[str, float] | None
    findings: list[Any] | None
    activity: Activity | None


class Complete(TypedDict):
    """Fields that tables and figures of a record require."""

    layers: Annotated[list[CompleteLayer], Meta(min_length=1)]
    T: Timesteps
    threshold: Voltage
    loss: NotRequired[Number]


def read_lines(run: Path) -> list[Record]:
    """The lines of gradient-flow.jsonl of the run in a directory; none if there is no file. All epochs have the same layers.

    Raises:
        ConfigError: they are damaged.
    """
    file = run / rundir.GRADIENT_FLOW
    lines: list[Any] = schema.read_lines(file, Line)
    names = [[layer["name"] for layer in line["layers"]] for line in lines if "event" not in line]
    for number, found in enumerate(names, 1):
        if found != names[0] or not found:
            raise ConfigError(f"{file}: line {number}: layers: found other names than in line 1", schema.HINT)
    return lines


def read_last(run: Path) -> Record:
    """The last of :func:`read_lines`, without reading the others; empty if there is none."""
    lines = schema.read_lines(run / rundir.GRADIENT_FLOW, Line, last=1)
    return lines[0] if lines else {}


def read_full(run: Path) -> Record | None:
    """The record in gradient-flow.json of the run in a directory; None if there is no file.

    Raises:
        ConfigError: it is damaged.
    """
    file = run / rundir.FULL_FLOW
    return dict(schema.read(file, Full, ConfigError)) if os.path.lexists(file) else None


def complete(flow: Record, where: object) -> Record:
    """A full record, which must have all that tables and figures require, and increasing edges around the counts of its histograms.

    Raises:
        ConfigError: it does not.
    """
    schema.check(flow, Full, where, ConfigError)
    schema.check(flow, Complete, where, ConfigError)
    for layer in flow["layers"]:
        edges = layer["histogram"]["edges"]
        counts = layer["histogram"]["counts"]
        if len(edges) != len(counts) + 1 or edges != sorted(set(edges)):
            found = f"{len(edges)} edges of {len(counts)} counts"
            raise ConfigError(f"{where}: {layer['name']}: found {found}, expected one more, increasing", schema.HINT)
    return flow


def history(checkpoint: Path) -> Record | None:
    """The history of the run that contains a checkpoint; None if there is no readable gradient-flow.jsonl in its directory.

    Returns:
        ``{"epochs": [0, 1, ...], "layers": {name: {"beta": [...], ...}}}`` with the measures of ``HISTORY``, up to the epoch in
        which training diverged, if any.
    """
    try:
        epochs = [line for line in read_lines(checkpoint.parent) if "event" not in line]
    except ConfigError as error:
        log.warning("%s; the history of the run is not shown", error.message)
        return None
    if not epochs:
        return None
    return {
        "epochs": [line["epoch"] for line in epochs],
        "layers": {
            layer["name"]: {key: [line["layers"][index].get(key) for line in epochs] for key in HISTORY}
            for index, layer in enumerate(epochs[0]["layers"])
        },
    }
