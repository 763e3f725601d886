"""Gradient flow in a terminal: at 80 columns, and in a file."""

import io
import re

import pytest
from rich.console import Console

from lsgcli.report import findings
from tests.flows import flow, hollow


def printed(flows, width=80):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    out = Console(file=stream, width=width, highlight=False, emoji=False)
    for part in findings.flow_lines(flows, out):
        out.print(part)
    stream.flush()
    return stream.buffer.getvalue().decode()


def rows(text, flows):
    names = [layer["name"] for layer in flows[0]["layers"]]
    return [line for line in text.splitlines() if line.split(" ")[0] in names and "  " in line]


@pytest.mark.parametrize("width", [80, 120, 160])
def test_lines_fit_and_say_the_coverage_of_every_layer(width):
    flows = [flow(layers=4, T=4, method=m, seed=k) for k, m in enumerate(("fixed", "lsg"))]
    text = printed(flows, width)
    layers = [layer for one in flows for layer in one["layers"]]
    assert max(map(len, text.splitlines())) <= width
    for line, layer in zip(rows(text, flows), layers, strict=True):
        assert f"{layer['coverage']:.3f}" in line
        assert f"{layer['grad_norm']:.2e}" in line


def test_what_has_no_place_is_said():
    """A measure that was asked for is not left out without a word."""
    narrow, wide = (" ".join(printed([flow(layers=2)], width).split()) for width in (50, 2000))
    assert re.search(r"1\d more measures: --json or --csv, or a wider terminal", narrow)
    assert wide.endswith("7 more measures: --json or --csv")


def test_bars_and_steps():
    one = flow(layers=1, T=4)
    layer = one["layers"][0]
    layer["coverage"], layer["per_step"]["coverage"] = 0.5, [0.0, 0.2, 0.4, None]
    assert re.search(r"0\.500 ███ +▁▅█ ", printed([one]))


def test_every_second_of_more_steps_than_there_is_room_for():
    one = flow(layers=1, T=24)
    one["layers"][0]["per_step"]["coverage"] = [0.1] * 12 + [0.3] * 12
    assert "▁▁▁▁▁▁██████ " in printed([one])


def test_what_is_missing_is_a_dash():
    flows = [hollow(flow(layers=2))]
    assert all(" - " in line for line in rows(printed(flows), flows))


def test_a_layer_that_is_not_well_is_told_with_the_reason():
    one = flow(layers=2)
    one["layers"][1] |= {"verdict": "silent", "reason": "firing_rate 0 < 0.001"}
    assert "silent: conv2 (firing_rate 0 < 0.001)" in printed([one])


def test_the_caption_of_tried_remedies_names_the_split_that_was_measured():
    """A run that diverges in its first epoch has no accuracy, and does not tell the split."""
    row = {"loss": None, "failed": None, "gone": [], "new": [], "run": "", "epochs": 2}
    unchanged = {**row, "remedy": "unchanged", "accuracy": None, "chosen_on": "test", "diverged": "epoch 1"}
    other = {**row, "remedy": "--lr 0.01", "accuracy": 0.5, "chosen_on": "val", "diverged": None}
    assert findings.tried([unchanged, other]).caption.startswith("val ")
