"""Figures of the results of ``benchmarks.step`` for the documentation: bars of samples per second and of peak memory.

    pip install -e '.[bench]'
    python -m benchmarks.plot                    # docs/images/speed.svg, of all training cases in benchmarks/results
    python -m benchmarks.plot --inference --out picture.svg

Thin lines are quartiles. The text colour adapts to light and dark backgrounds.
"""

import argparse
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench.cases import Case
from benchmarks.measuring import RESULTS, read_all
from lsgcli.report.drawing import COLOURS

IMAGE = RESULTS.parents[1] / "docs" / "images" / "speed.svg"
INK = "#333333"  # stands for the text's colour until the SVG is written
STYLE = f"<style>svg{{color:{INK}}}@media(prefers-color-scheme:dark){{svg{{color:#dddddd}}}}</style>"
SETTINGS = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "lsg",  # the same picture in the same bytes
    "font.family": "sans-serif",
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK),
}
# Contender -> place in COLOURS; its "best" and other variants look alike.
COLOUR = {"lsg": 0, "spikingjelly": 1, "snntorch": 3, "floor": 6}


def picture(records: Sequence[Mapping[str, Any]]) -> str:
    """An SVG with a row of two plots for every record of ``benchmarks.step``: speed and memory."""
    import matplotlib
    from matplotlib.figure import Figure

    counts = [len(record["contenders"]) for record in records]
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(9, 0.9 * len(records) + 0.2 * sum(counts)), layout="constrained")
        axes = figure.subplots(len(records), 2, squeeze=False, gridspec_kw={"height_ratios": [count + 3 for count in counts]})
        for record, (speed, memory) in zip(records, axes, strict=True):
            _bars(record, speed, memory)
        return svg(figure)


def svg(figure: Any, style: str = STYLE) -> str:
    """A figure drawn with ``SETTINGS`` as an SVG whose text, by default, adapts to light and dark backgrounds."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue().replace(INK, "currentColor")
    return text.replace("<defs>", f"{style}<defs>", 1)


def _bars(record: Mapping[str, Any], speed: Any, memory: Any) -> None:
    """Both plots of one case."""
    case, contenders = record["case"], record["contenders"]
    names, found = list(contenders), list(contenders.values())
    colours = [COLOURS[COLOUR.get(name.split()[0].split("-")[0], 7)] for name in names]
    rates = [one["samples_per_second"] for one in found]
    ends = [(case["batch"] / one["seconds"]["high"], case["batch"] / one["seconds"]["low"]) for one in found]
    spread = [[max(0.0, r - low) for r, (low, _) in zip(rates, ends, strict=True)]]
    spread.append([max(0.0, high - r) for r, (_, high) in zip(rates, ends, strict=True)])
    peaks = [one["peak_bytes"] / 1e6 for one in found]
    speed.set_title(f"{Case(**case).title}\nsamples/s, more is better", loc="left")
    memory.set_title("peak MB of the process, less is better", loc="left")
    for axis, values, error, write in ((speed, rates, spread, "{:.3g}".format), (memory, peaks, None, "{:.0f}".format)):
        bars = axis.barh(names, values, color=colours, xerr=error, ecolor=INK, error_kw={"elinewidth": 0.8})
        axis.bar_label(bars, [write(value) for value in values], padding=4)
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.tick_params(bottom=False, labelbottom=False, left=False)
    memory.tick_params(labelleft=False)


def load(experiment: str, folder: Path = RESULTS) -> list[dict[str, Any]]:
    """The records of an experiment's cases, in the order of their names, without unfinished races."""
    records = [record for name, record in sorted(read_all(experiment, folder).items()) if name != experiment]
    return [record for record in records if _ended(record.get("protocol", {}))]


def _ended(protocol: Mapping[str, Any]) -> bool:
    return protocol.get("rounds") == protocol.get("of")


def steps(folder: Path, mode: str) -> list[dict[str, Any]]:
    """The records of a mode: VGGSNN before ResNet-19, the widest networks first."""
    records = [record for record in load("step", folder) if record["case"]["mode"] == mode]
    return sorted(records, key=lambda r: (r["case"]["network"] != "vggsnn", -r["case"]["width"], r["case"]["T"]))


def main() -> None:
    """Draw the results in ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inference", action="store_true", help="instead of training")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=IMAGE)
    options = parser.parse_args()
    mode = "inference" if options.inference else "train"
    records = steps(options.results, mode)
    if not records:
        raise SystemExit(f"{options.results}: no records of {mode} steps; run python -m benchmarks.step --all")
    options.out.write_text(picture(records), encoding="utf-8")
    print(options.out)


if __name__ == "__main__":
    main()
