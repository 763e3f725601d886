"""Draw the figures of the documentation that follow from equations or from `benchmarks/results`: `python docs/figures.py`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for benchmarks, which is not installed

import matplotlib
import torch
from matplotlib.figure import Figure

from benchmarks.measuring import read
from benchmarks.plot import INK, SETTINGS, svg
from lsgcli.config.training import TrainingConfig
from lsgcli.report.drawing import COLOURS
from lsgcli.training.optim import schedule

IMAGES = Path(__file__).parent / "images"
STEPS = 40  # of a drawn neuron
BETA, THRESHOLD = 0.8, 0.5


def potentials(current: Sequence[float], reset: str) -> tuple[list[float], list[int]]:
    """Potential before the reset, and spikes, of a neuron at each step."""
    u, o, potential, spikes = 0.0, 0, [], []
    for now in current:
        remains = {"hard": u * (1 - o), "soft": u - THRESHOLD * o, "none": u}[reset]
        u = BETA * remains + now
        o = int(u >= THRESHOLD)
        potential.append(u)
        spikes.append(o)
    return potential, spikes


def currents() -> list[float]:
    """Currents of a drawn neuron."""
    generator = torch.Generator().manual_seed(4)
    return (0.14 + 0.22 * torch.randn(STEPS, generator=generator)).tolist()


def bare(axis: Any) -> None:
    """Without the frame's upper and right line."""
    axis.spines[["top", "right"]].set_visible(False)


def neuron(figure: Any) -> None:
    """A neuron's potential, its spikes, and the interval of the surrogate."""
    axis = figure.subplots()
    potential, spikes = potentials(currents(), "hard")
    half = THRESHOLD * (1 + BETA**2) ** 0.5
    axis.axhspan(THRESHOLD - half, THRESHOLD + half, color=COLOURS[1], alpha=0.18, lw=0)
    axis.axhline(THRESHOLD, color=INK, lw=0.8, ls="--")
    axis.plot(potential, color=COLOURS[0], marker=".", lw=1.2)
    fired = [t for t, spike in enumerate(spikes) if spike]
    axis.plot(fired, [potential[t] for t in fired], "o", color=COLOURS[2])
    axis.text(STEPS + 0.3, THRESHOLD, "threshold", va="center")
    axis.text(STEPS + 0.3, THRESHOLD + half, "interval of\nwidth α", va="top", color=COLOURS[1])
    axis.set(
        xlabel="timestep", ylabel="potential u", title="A potential inside the interval passes a gradient on; a dot is a spike"
    )
    bare(axis)


def resets(figure: Any) -> None:
    """The same currents with each reset."""
    axes = figure.subplots(3, 1, sharex=True)
    for axis, reset, colour in zip(axes, ("hard", "soft", "none"), COLOURS, strict=False):
        potential, spikes = potentials(currents(), reset)
        axis.axhline(THRESHOLD, color=INK, lw=0.8, ls="--")
        axis.plot(potential, color=colour, marker=".", lw=1.2)
        axis.set_ylabel(f"u, reset {reset}")
        axis.set_title(f"{sum(spikes)} spikes in {STEPS} timesteps", loc="right", fontsize=9)
        bare(axis)
    axes[-1].set_xlabel("timestep")


def schedules(figure: Any) -> None:
    """The factor of the learning rate of three schedules of 100 epochs."""
    axis = figure.subplots()
    shown = {
        "cosine": {},
        "cosine, warm-up of 10 epochs, cooldown of 10": {"warmup_epochs": 10, "warmup_start": 0.0, "cooldown_epochs": 10, "lr_floor": 0.05},
        "step, every 30 epochs by 0.3": {"schedule": "step", "step_epochs": 30, "step_factor": 0.3},
    }  # fmt: skip
    for colour, (label, settings) in zip(COLOURS, shown.items(), strict=False):
        config = TrainingConfig(epochs=100, **settings)
        axis.plot([schedule(10 * epoch, 10, config) for epoch in range(100)], color=colour, label=label)
    axis.set(xlabel="epoch", ylabel="factor of --lr")
    axis.legend(frameon=False)
    bare(axis)


def threshold(figure: Any) -> None:
    """Accuracy by threshold of experiment E1."""
    axis = figure.subplots()
    found: dict[str, list[tuple[float, float, float]]] = {"fixed width 1": [], "fixed width 2 v_th": [], "lsg": []}
    for name, one in read("evidence-threshold")["tables"].items():
        v_th = float(name.removeprefix("threshold-"))
        for row in one["rows"]:
            fixed = row["method"] in ("fixed", "none")  # an earlier name
            width = row["width"] if row["width"] is not None else 2 * v_th  # where both are 1
            point = (v_th, 100 * row["mean"], 100 * row["std"])
            if fixed and width == 1:
                found["fixed width 1"].append(point)
            if fixed and width == 2 * v_th:
                found["fixed width 2 v_th"].append(point)
            if row["method"] == "lsg":
                found["lsg"].append(point)
    for colour, shift, (label, points) in zip(COLOURS, (0.97, 1, 1.03), found.items(), strict=False):
        places, means, spreads = zip(*points, strict=True)
        axis.errorbar([shift * place for place in places], means, spreads, color=colour, marker="o", capsize=3, label=label)
    axis.set_xscale("log", base=2)
    axis.set_xticks([0.25, 0.5, 1, 2], ["0.25", "0.5", "1", "2"])
    axis.set(xlabel="threshold v_th", ylabel="accuracy, %")
    axis.legend(frameon=False)
    bare(axis)


def mismatch(figure: Any) -> None:
    """Gradient of the first layer, agreement with finite differences in the last one, and accuracy, by width and depth."""
    panels = figure.subplots(1, 3)
    cells = read("mismatch")["cells"]
    measures = {
        "start: gradient norm,\nfirst layer over last": lambda cell: cell["start"]["grad_ratio"][0],
        "trained: cosine with finite\ndifferences, last layer": lambda cell: cell["end"]["mismatch"][-1],
        "test accuracy, %": lambda cell: 100 * cell["accuracy"],
    }
    widths = sorted({cell["width"] for cell in cells})
    for axis, (title, value) in zip(panels, measures.items(), strict=True):
        for colour, layers in zip(COLOURS, sorted({cell["layers"] for cell in cells}), strict=False):
            values = [[value(c) for c in cells if (c["layers"], c["width"]) == (layers, width)] for width in widths]
            axis.plot(widths, [sum(own) / len(own) for own in values], color=colour, label=f"{layers} layers")
            axis.plot(widths, values, ".", color=colour, ms=4)
        axis.set_xscale("log", base=2)
        axis.set_xticks(widths, [f"{width:g}" for width in widths])
        axis.set_title(title, loc="left", fontsize=9)
        axis.set_xlabel("width, in v_th")
        bare(axis)
    panels[0].set_yscale("log")
    panels[2].legend(frameon=False)


def bars(axis: Any, values: dict[str, float], written: str) -> None:
    """Horizontal bars with their values; those of lsg in its colour."""
    colours = [COLOURS[0] if name.startswith("lsg") else COLOURS[6] for name in values]
    drawn = axis.barh(list(values), list(values.values()), color=colours)
    axis.bar_label(drawn, [written.format(value) for value in values.values()], padding=4)
    axis.invert_yaxis()
    axis.margins(x=0.15)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.tick_params(bottom=False, labelbottom=False, left=False)


def precisions(figure: Any) -> None:
    """Samples per second of inference, by precision."""
    record = read("step-vggsnn-w1-T10-b8-48px-inference-all")
    speeds = {name: one["samples_per_second"] for name, one in record["contenders"].items()}
    kept = sorted(
        (name for name in speeds if "snntorch" not in name and name.partition(" ")[0] != "spikingjelly"), key=speeds.get
    )
    axis = figure.subplots()
    bars(axis, {name: speeds[name] for name in kept}, "{:.1f}")
    axis.set_title("VGGSNN at full width, T=10, 48 px, batch 8, two cores: samples/s", loc="left")


def stream(figure: Any) -> None:
    """Latency of a timestep."""
    record = read("stream-vggsnn-w0.25-T10-b1-48px-stream-1-threads")
    medians = {name: one["median"] for name, one in record["contenders"].items()}
    axis = figure.subplots()
    bars(axis, {name: medians[name] for name in sorted(medians, key=medians.get)}, "{:.2f} ms")
    axis.set_title("a timestep of one sample, VGGSNN x 0.25, 48 px, one thread: median", loc="left")


def initialisation(figure: Any) -> None:
    """Firing rates and gains of plain networks at the start, by layer."""
    networks: dict[tuple[str, int], dict[str, list[float | None]]] = {}
    for name, one in read("initialisation")["networks"].items():
        row, _, layers = name.partition("; ")
        networks[row, int(layers)] = one
    depths = list(dict.fromkeys(layers for _, layers in networks))
    axes = figure.subplots(2, len(depths), sharey="row")
    for (row, layers), one in networks.items():
        column, colour = depths.index(layers), COLOURS[list(dict.fromkeys(row for row, _ in networks)).index(row)]
        for axis, key in zip(axes[:, column], ("rates", "gains"), strict=True):
            values = [value or float("nan") for value in one[key]]  # a silent layer has no place on a logarithmic axis
            axis.plot(range(1, layers + 1), values, color=colour, lw=1.2, label=row)
    for axis, layers in zip(axes[0], depths, strict=True):
        axis.set_title(f"{layers} layers")
    for axis in axes.flat:
        axis.set_yscale("log")
        bare(axis)
    axes[0, 0].set(ylabel="firing rate", ylim=(1e-3, 1))
    axes[1, 0].set(ylabel="gain of the\ngradient's square", ylim=(0.1, 10))
    axes[1, 0].set_xlabel("layer")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)


FIGURES: dict[Callable[[Any], None], tuple[float, float]] = {  # with their sizes in inches
    neuron: (7.5, 3),
    resets: (7.5, 4),
    schedules: (7.5, 2.6),
    threshold: (7.5, 2.8),
    mismatch: (7.5, 2.8),
    precisions: (7.5, 2.2),
    stream: (7.5, 2.2),
    initialisation: (9, 4.6),
}


def main() -> None:
    """Draw all of them."""
    with matplotlib.rc_context(SETTINGS):
        for draw, size in FIGURES.items():
            figure = Figure(figsize=size, layout="constrained")
            draw(figure)
            (IMAGES / f"{draw.__name__}.svg").write_text(svg(figure), encoding="utf-8")


if __name__ == "__main__":
    main()
