"""Numbers in pictures: read back from the SVG by its own axes and compared with the records."""

import re

import numpy as np
import pytest

from lsgcli import registry
from lsgcli.report.drawing import BLUE, LIGHT, ORANGE, svg
from lsgcli.report.figures import labels
from lsgcli.store.flows import HISTORY
from tests.flows import flow
from tests.unit.report import reading

THREE = [flow(4, 3, method, seed=i) for i, method in enumerate(("fixed", "trainable-decay", "lsg"))]
NAMES = [record["method"] for record in THREE]


def views(name, flows):
    return registry.get("picture", name).views(flows, labels(flows))


def only(name, flows, view=0):
    return [svg(panel.chart) for panel in views(name, flows)[view].panels]


@pytest.mark.parametrize(
    ("name", "view", "key", "log"),
    [("coverage", 0, "coverage", False), ("coverage", 1, "sg_mean", False), ("gradient-norm", 0, "grad_norm", True)],
)
def test_values_by_layer(name, view, key, log):
    flows = [flow(5, seed=i, method=m) for i, m in enumerate(NAMES)]
    for record in flows:
        for layer, norm in zip(record["layers"], (2e-3, 0.03, 0.7, 0.011, 0.5), strict=True):
            layer["grad_norm"] = norm
    (drawn,) = only(name, flows, view)
    value = reading.scale(drawn, "Y", log)
    number = reading.scale(drawn, "X")
    for record in flows:
        for place, layer in enumerate(record["layers"], 1):
            ((_, x, y),) = reading.titled(drawn, f"layer {place}, {record['method']}, ")
            assert value(y) == pytest.approx(layer[key], rel=0.03 if log else 0.02)
            assert number(x) == pytest.approx(place, abs=0.01)
    for line, record in zip(reading.marks(drawn, "line"), flows, strict=True):
        np.testing.assert_allclose(value(reading.points(line)[:, 1]), [layer[key] for layer in record["layers"]], rtol=0.03)
    assert log or "0" in [text for text, *_ in reading.texts(drawn)]


def test_a_norm_of_zero_is_at_the_bottom():
    record = flow(3)
    record["layers"][1]["grad_norm"] = 0.0
    (drawn,) = only("gradient-norm", [record])
    heights = [reading.titled(drawn, f"layer {k}, lsg, ")[0][2] for k in (1, 2, 3)]
    _, pixels = reading.numbers(drawn, "Y")
    assert heights[1] == pytest.approx(max(pixels), abs=0.01)
    assert heights[1] > max(heights[0], heights[2])
    assert all("L" not in line[0].get("d") for line in reading.marks(drawn, "line"))  # no line across the gap


def test_a_verdict_has_a_ring_and_is_told():
    record = flow(3)
    record["layers"][1] |= {"verdict": "silent", "reason": "firing_rate 0 < 0.001"}
    (drawn,) = only("coverage", [record])
    marks = [reading.titled(drawn, f"layer {k}, lsg, conv{k}: ") for k in (1, 2, 3)]
    assert [[mark.get("fill") == LIGHT["bad"] for mark, _, _ in found] for found in marks] == [[False], [True, False], [False]]
    coverage = record["layers"][1]["coverage"]
    assert reading.title(marks[1][0]) == f"layer 2, lsg, conv2: {coverage:.3f}, silent"


def test_histogram():
    record = flow(2)
    for drawn, layer in zip(only("potential", [record]), record["layers"], strict=True):
        (outline,) = [reading.points(area) for area in reading.marks(drawn, "area")]
        (curve,) = [reading.points(line) for line in reading.marks(drawn, "line")]
        u = reading.scale(drawn, "X")
        counts, edges = np.array(layer["histogram"]["counts"]), np.array(layer["histogram"]["edges"])
        floor = outline[:, 1].max()
        upper = outline[: 2 * len(edges) - 1][::2]  # left ends of the steps, and the end of the last one
        np.testing.assert_allclose(u(upper[:, 0]), edges, atol=0.02)
        heights = floor - upper[:-1, 1]
        np.testing.assert_allclose(heights / heights.max(), counts / counts.max(), atol=0.002)
        (shade,) = [reading.points(box) for box in reading.marks(drawn, "rect")]
        width = float(re.search(r"h([\d.]+)", reading.marks(drawn, "rect")[0][0].get("d"))[1])
        interval = u(shade[0, 0] + np.array([0, width]))
        np.testing.assert_allclose(interval, np.array(layer["interval"]) / record["threshold"], atol=0.02)
        ((_, threshold, _),) = reading.elements(drawn, "line", "mark-rule role-mark")
        assert u(threshold) == pytest.approx(1, abs=0.02)
        # the normal is on the same scale as the bars
        sigma = layer["u_std_predicted"]["paper"]
        total = counts.sum() + layer["histogram"]["below"] + layer["histogram"]["above"]
        density = (floor - curve[:, 1]) * (counts.max() / total / 0.1) / heights.max()
        np.testing.assert_allclose(
            density, np.exp(-((u(curve[:, 0]) / sigma) ** 2) / 2) / sigma / np.sqrt(2 * np.pi), atol=0.004
        )


def test_histogram_tells_what_is_out_of_sight():
    record = flow(1)
    record["layers"][0]["histogram"]["above"] = 500
    (view,) = views("potential", [record])
    assert view.panels[0].note.endswith("9.1% out of sight")


def test_potential_without_histograms_is_left_out():
    record = flow(2)
    del record["layers"][0]["histogram"], record["layers"][1]["histogram"]
    assert views("potential", [record]) == []


def test_heat_map():
    found = {view.name: view.panels for view in views("steps", THREE)}
    assert list(found) == ["coverage", "firing rate", "u mean", "u std", "dL/du = 0", "rho"]
    values = np.array([[layer["per_step"]["coverage"] for layer in record["layers"]] for record in THREE])
    shades = {}
    for panel, record in zip(found["coverage"], THREE, strict=True):
        drawn = svg(panel.chart)
        words = [text for text, _, _ in reading.texts(drawn, "mark-text role-mark")]
        for number, layer in enumerate(record["layers"], 1):
            steps = layer["per_step"]["coverage"]
            cells = reading.titled(drawn, f"layer {number} {layer['name']}, t = ")
            assert [reading.title(cell).rpartition(" ")[2] for cell in cells] == [f"{value:.3g}" for value in steps]
            assert words[3 * number - 3 : 3 * number] == [f"{value:.2f}" for value in steps]
            shades |= {value: float(cell.get("opacity", 1)) for value, (cell, _, _) in zip(steps, cells, strict=True)}
    assert shades.keys() == set(values.ravel())
    opacities = [shades[value] for value in sorted(shades)]
    assert opacities == sorted(opacities)  # the larger, the darker, in all checkpoints alike
    assert opacities == pytest.approx([0.2 + 0.8 * value / values.max() for value in sorted(shades)])


def cells_of(view, record):
    """Fill of each cell."""
    (panel,) = next(found for found in views("steps", [record]) if found.name == view).panels
    return {reading.title(cell): cell[0].get("fill") for cell in reading.marks(svg(panel.chart), "rect")}


def test_values_below_zero_have_another_colour():
    record = flow(1)
    fills = cells_of("u mean", record)
    expected = [ORANGE if value < 0 else BLUE for value in record["layers"][0]["per_step"]["u_mean"]]
    assert list(fills.values()) == expected
    assert set(expected) == {BLUE, ORANGE}


def test_heat_map_of_many_steps_tells_values_by_titles():
    record = flow(2, T=40)
    value = record["layers"][1]["per_step"]["coverage"][39]
    assert f"layer 2 conv2, t = 40: {value:.3g}" in cells_of("coverage", record)


def test_a_step_without_a_value_is_empty():
    fills = cells_of("rho", flow(1, T=3))
    assert [fill == LIGHT["shade"] for fill in fills.values()] == [False, False, True]
    assert list(fills)[2] == "layer 1 conv1, t = 3: no value"


def test_training():
    record = flow(3, epochs=6)
    for drawn, key in zip(only("training", [record]), HISTORY, strict=True):
        value = reading.scale(drawn, "Y", log=key == "grad_norm")
        lines = [reading.points(line) for line in reading.marks(drawn, "line")]
        for line, history in zip(lines, record["history"]["layers"].values(), strict=True):
            np.testing.assert_allclose(value(line[:, 1]), history[key], atol=0.003)
        assert reading.numbers(drawn, "X")[0].tolist() == [1, 2, 3, 4, 5, 6]
        first = record["history"]["layers"]["conv2"][key][0]
        assert len(reading.titled(drawn, f"layer 2 conv2, epoch 1: {first:.4g}")) == 1


def test_what_is_constant_has_no_chart():
    fixed = flow(2, method="fixed")
    for layer in fixed["history"]["layers"].values():
        layer["beta"] = [0.2] * len(layer["beta"])
    assert len(views("training", [fixed])[0].panels) == len(HISTORY) - 1


def test_training_that_is_not_known():
    known, unknown = flow(2, method="lsg"), flow(2, method="fixed", history=None)
    assert views("training", [unknown]) == []
    (view,) = views("training", [known, unknown])
    assert [panel.chart is None for panel in view.panels] == [False, True] * len(HISTORY)
    assert "gradient-flow.jsonl" in view.panels[1].note


def cells(drawn, T, rows):
    """(rows, T) cells of the raster that have a dot."""
    found = np.zeros((rows, T), dtype=bool)
    dots = reading.points(reading.marks(drawn, "symbol")[0])[::2]
    (ground,) = [placed for placed in reading.elements(drawn, "path") if placed[0].get("fill") == LIGHT["shade"]]
    for x, y in dots - [ground[1], ground[2]]:
        row, t = y / 120 * rows, x / 228 * T
        assert not found[int(row), int(t)]
        found[int(row), int(t)] = True
    return found


@pytest.mark.parametrize("T", [1, 4, 10, 100])
def test_raster(T):
    """Spikes cell by cell, potentials point by point, window and threshold, by the axis of each panel."""
    record = flow(6, T=T)  # up to 240 neurons
    record["activity"]["layers"][1]["traces"][0]["alpha"] = [0.5 + 0.1 * (t % 3) for t in range(T)]
    panels = views("raster", [record])[0].panels
    for number, (panel, layer) in enumerate(zip(panels, record["activity"]["layers"], strict=True), 1):
        drawn = svg(panel.chart)
        expected = [[digit == "1" for digit in row] for row in layer["spikes"]]
        assert cells(drawn, T, len(expected)).tolist() == expected
        u, t = reading.scale(drawn, "Y", number=1), reading.numbers(drawn, "X")[0]
        assert set(t) <= set(range(1, T + 1))
        ((_, _, threshold),) = reading.elements(drawn, "line", "mark-rule role-mark")
        assert u(threshold) == pytest.approx(1, abs=0.03)
        (band,) = [u(reading.points(area)[:, 1]) for area in reading.marks(drawn, "area")]
        assert np.ptp(band) == pytest.approx(max(layer["traces"][0]["alpha"]), abs=0.06)
        for trace in layer["traces"]:
            where = ", ".join(map(str, trace["neuron"]))
            (line,) = reading.titled(drawn, f"neuron {where}: {trace['role']}, {sum(u >= 1 for u in trace['u'])} spikes")
            np.testing.assert_allclose(u(reading.points(line)[:, 1]), trace["u"], atol=0.05)
            steps = 228 * (np.arange(T) + 0.5) / T + line[1]  # below the spikes of the same timesteps
            np.testing.assert_allclose(reading.points(line)[:, 0], steps, atol=0.01)
        assert panel.layer == number
    assert panels[0].note.startswith("Sample 3: 75.0% of 40 neurons fire, rate ")
    assert [panel.note.split("; ")[1] for panel in panels[4:]] == ["all shown", "200 shown, evenly chosen"]


def test_raster_of_several_checkpoints_and_of_none():
    known, unknown = flow(2, method="lsg"), flow(3, method="fixed", activity=None)
    assert views("raster", [unknown]) == []
    (view,) = views("raster", [known, unknown])
    assert (view.columns, [panel.chart is None for panel in view.panels]) == (2, [False, True, False, True])
    assert view.panels[2].title == "2 conv2, lsg"


def test_labels():
    def made(*pairs):
        return labels([{"method": method, "checkpoint": path} for method, path in pairs])

    assert made(("fixed", "a/x"), ("lsg", "b/x")) == ["fixed", "lsg"]
    assert made(("lsg", "runs/a/best.safetensors"), ("lsg", "runs/b/best.safetensors")) == ["lsg a", "lsg b"]
    assert made(("lsg", "best"), ("lsg", "best")) == ["lsg 1", "lsg 2"]
    assert made(("lsg", "a"), ("lsg", "b"), ("lsg", "b")) == ["lsg a", "lsg b 2", "lsg b 3"]
    assert labels([{}, {}]) == ["network 1", "network 2"]
