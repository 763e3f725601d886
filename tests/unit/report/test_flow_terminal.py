"""Gradient flow in a terminal: at 80 columns, in a file, and where the encoding has no blocks."""

import io
import re

import pytest
from rich.console import Console

from lsgcli.report import flow_terminal
from tests.flows import flow, hollow

THREE = ("none", "trainable-decay", "lsg")


def printed(flows, width=80, encoding="utf-8"):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    out = Console(file=stream, width=width, highlight=False, emoji=False)
    for part in flow_terminal.lines(flows, out):
        out.print(part)
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


def rows(text, flows):
    names = [layer["name"] for layer in flows[0]["layers"]]
    return [line for line in text.splitlines() if line.split(" ")[0] in names and "  " in line]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [80, 120, 160])
@pytest.mark.parametrize("methods", [["lsg"], THREE])
def test_lines_fit_and_say_the_coverage_of_every_layer(methods, width, encoding):
    flows = [flow(layers=4, T=4, method=m, seed=k) for k, m in enumerate(methods)]
    text = printed(flows, width, encoding)
    table = rows(text, flows)
    assert len(table) == 4
    assert max(map(len, text.splitlines())) <= width
    for index, line in enumerate(table):
        for one in flows:
            assert f"{one['layers'][index]['coverage']:.3f}" in line
            assert f"{one['layers'][index]['grad_norm']:.2e}" in line


def test_what_has_no_place_is_said():
    """A measure that was asked for is not left out without a word."""
    narrow, wide = (" ".join(printed([flow(layers=2)], width).split()) for width in (50, 2000))
    assert re.search(r"1\d more measures: --json or --csv, or a wider terminal", narrow)
    assert wide.endswith("7 more measures: --json or --csv")


def test_bars_and_steps():
    one = flow(layers=1, T=4)
    layer = one["layers"][0]
    layer["coverage"], layer["per_step"]["coverage"] = 0.5, [0.0, 0.2, 0.4, None]
    assert "0.500 ███     ▁▅█ " in printed([one])
    assert "0.500 ###     059 " in printed([one], encoding="ascii")


def test_more_steps_than_there_is_room_for_are_averaged():
    one = flow(layers=1, T=24)
    one["layers"][0]["per_step"]["coverage"] = [0.1] * 12 + [0.3] * 12
    assert "000000999999 " in printed([one], encoding="ascii")


def test_what_is_missing_is_a_dash():
    flows = [hollow(flow(layers=2))]
    assert all(" - " in line for line in rows(printed(flows), flows))


def test_a_layer_that_is_not_well_is_told_with_the_reason():
    one = flow(layers=2)
    one["layers"][1] |= {"verdict": "silent", "reason": "firing_rate 0 < 0.001"}
    assert "silent: conv2 (firing_rate 0 < 0.001)" in printed([one])
    assert "lsg: silent: conv2" in printed([flow(layers=2, method="none"), one])


def test_networks_that_differ_have_a_table_each():
    flows = [flow(layers=2, method="none"), flow(layers=3, method="lsg")]
    assert len(rows(printed(flows), [flows[1]])) == 5


def test_names_that_are_alike_when_cut_become_letters():
    flows = [flow(method="trainable-decay", checkpoint=f"runs/trainable-decay/{name}.safetensors") for name in ("best", "last")]
    text = printed(flows)
    assert "A = runs/trainable-decay/best.safetensors" in text
    assert "B = runs/trainable-decay/last.safetensors" in text
