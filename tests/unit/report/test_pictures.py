"""Numbers in pictures: read back from the SVG by its own axes and compared with the records."""

import re

import numpy as np
import pytest

from lsgcli import registry
from lsgcli.report.drawing import LIGHT
from lsgcli.report.figures import labels
from lsgcli.store.flows import HISTORY
from tests.flows import flow
from tests.unit.report import reading

THREE = [flow(4, 3, method, seed=i) for i, method in enumerate(("fixed", "trainable-decay", "lsg"))]
NAMES = [record["method"] for record in THREE]


def views(name, flows):
    return registry.get("picture", name).views(flows, labels(flows))


def only(name, flows, view=0):
    return [panel.drawing.svg() for panel in views(name, flows)[view].panels]


@pytest.mark.parametrize(
    ("name", "view", "key", "log"),
    [("coverage", 0, "coverage", False), ("coverage", 1, "sg_mean", False), ("gradient-norm", 0, "grad_norm", True)],
)
def test_values_by_layer(name, view, key, log):
    flows = [flow(5, seed=i, method=m) for i, m in enumerate(NAMES)]
    for record in flows:
        for layer, norm in zip(record["layers"], (2e-3, 0.03, 0.7, 0.011, 0.5), strict=True):
            layer["grad_norm"] = norm
    (svg,) = only(name, flows, view)
    value = reading.y_axis(svg, log)
    numbers = {text: x for text, x, y in reading.texts(svg) if 220 < y < 240}
    for record in flows:
        for number, layer in enumerate(record["layers"], 1):
            (mark,) = reading.group(svg, f"layer {number}, {record['method']}, ").findall(f"{reading.SVG}circle")
            assert value(float(mark.get("cy"))) == pytest.approx(layer[key], rel=0.03 if log else 0.02)
            assert float(mark.get("cx")) == pytest.approx(numbers[str(number)], abs=0.1)
    lines = [reading.points(e) for e in reading.elements(svg, "polyline") if e[0].get("stroke-width") == "2"]
    for line, record in zip(lines, flows, strict=True):
        np.testing.assert_allclose(value(line[:, 1]), [layer[key] for layer in record["layers"]], rtol=0.03)
    assert log or "0" in [text for text, *_ in reading.texts(svg)]


def test_a_norm_of_zero_is_at_the_bottom():
    record = flow(3)
    record["layers"][1]["grad_norm"] = 0.0
    (svg,) = only("gradient-norm", [record])
    heights = [float(reading.group(svg, f"layer {k}, lsg, ")[1].get("cy")) for k in (1, 2, 3)]
    assert heights[1] == 250 - 38 > max(heights[0], heights[2])
    assert not [e for e in reading.elements(svg, "polyline") if e[0].get("stroke-width") == "2"]  # no line across the gap


def test_a_verdict_has_a_ring_and_is_told():
    record = flow(3)
    record["layers"][1] |= {"verdict": "silent", "reason": "firing_rate 0 < 0.001"}
    (svg,) = only("coverage", [record])
    marks = [reading.group(svg, f"layer {k}, lsg, conv{k}: ") for k in (1, 2, 3)]
    assert [len(mark.findall(f"{reading.SVG}circle[@fill='{LIGHT['bad']}']")) for mark in marks] == [0, 1, 0]
    coverage = record["layers"][1]["coverage"]
    assert marks[1].findtext(f"{reading.SVG}title") == f"layer 2, lsg, conv2: {coverage:.3f}, silent"


def test_histogram():
    record = flow(2)
    for svg, layer in zip(only("potential", [record]), record["layers"], strict=True):
        (outline,) = [reading.points(e) for e in reading.elements(svg, "polygon")]
        (curve,) = [reading.points(e) for e in reading.elements(svg, "polyline") if e[0].get("stroke-dasharray")]
        ticks = np.array([(float(text), x) for text, x, _ in reading.texts(svg)])
        slope, origin = np.polyfit(ticks[:, 1], ticks[:, 0], 1)
        counts, edges = np.array(layer["histogram"]["counts"]), np.array(layer["histogram"]["edges"])
        heights = outline[0, 1] - outline[1:-1:2, 1]
        np.testing.assert_allclose(origin + slope * outline[1:-1:2, 0], edges[:-1], atol=0.01)
        np.testing.assert_allclose(heights / heights.max(), counts / counts.max(), atol=0.002)
        (shade,) = [e for e, _, _ in reading.elements(svg, "rect") if e.get("fill-opacity")]
        left = float(shade.get("x"))
        interval = [origin + slope * left, origin + slope * (left + float(shade.get("width")))]
        np.testing.assert_allclose(interval, np.array(layer["interval"]) / record["threshold"], atol=0.02)
        # the normal is on the same scale as the bars
        sigma = layer["u_std_predicted"]["paper"]
        total = counts.sum() + layer["histogram"]["below"] + layer["histogram"]["above"]
        density = (outline[0, 1] - curve[:, 1]) * (counts.max() / total / 0.1) / heights.max()
        u = origin + slope * curve[:, 0]
        np.testing.assert_allclose(density, np.exp(-((u / sigma) ** 2) / 2) / sigma / np.sqrt(2 * np.pi), atol=0.004)


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
        svg = panel.drawing.svg()
        for number, layer in enumerate(record["layers"], 1):
            (row,) = [e for e, _, _ in reading.elements(svg, "g") if e.get("data-layer") == str(number)]
            name, *numbers = [text.text for text in row.iter(reading.SVG + "text")]
            assert name == f"{number} {layer['name']}"
            assert [float(text) for text in numbers] == pytest.approx(layer["per_step"]["coverage"], abs=0.0051)
            opacities = [float(box.get("fill-opacity")) for box in row.iter(reading.SVG + "rect")]
            shades |= dict(zip(layer["per_step"]["coverage"], opacities, strict=True))
    assert shades.keys() == set(values.ravel())
    opacities = [shades[value] for value in sorted(shades)]
    assert opacities == sorted(opacities)  # the larger, the darker, in all checkpoints alike
    assert len(set(opacities)) >= 24  # of 36, in two decimals


def test_values_below_zero_have_another_colour():
    record = flow(1)
    (svg,) = [view.panels[0].drawing.svg() for view in views("steps", [record]) if view.name == "u mean"]
    (row,) = [e for e, _, _ in reading.elements(svg, "g") if e.get("data-layer")]
    colours = {box.get("fill") for box in row.iter(reading.SVG + "rect")}
    assert len(colours) == len({value < 0 for value in record["layers"][0]["per_step"]["u_mean"]})


def test_heat_map_of_many_steps_tells_values_by_titles():
    record = flow(2, T=40)
    panel = views("steps", [record])[0].panels[0]
    svg = panel.drawing.svg()
    value = record["layers"][1]["per_step"]["coverage"][39]
    assert reading.group(svg, f"2 conv2, t = 40: {value:.3g}") is not None


def test_a_step_without_a_value_is_empty():
    rho = next(view for view in views("steps", [flow(2, T=3)]) if view.name == "rho")
    svg = rho.panels[0].drawing.svg()
    (row,) = [e for e, _, _ in reading.elements(svg, "g") if e.get("data-layer") == "1"]
    assert [rect.get("fill") == LIGHT["shade"] for rect in row.iter(f"{reading.SVG}rect")] == [False, False, True]


def test_training():
    record = flow(3, epochs=6)
    for svg, key in zip(only("training", [record]), HISTORY, strict=True):
        value = reading.y_axis(svg.replace('text-anchor="start"', ""), log=key == "grad_norm")
        lines = [reading.points(e) for e in reading.elements(svg, "polyline") if e[0].get("stroke-width") == "2"]
        assert len(lines) == 3
        for line, history in zip(lines, record["history"]["layers"].values(), strict=True):
            np.testing.assert_allclose(value(line[:, 1]), history[key], atol=0.002)
        assert {"1", "3", "5"} <= {text for text, _, y in reading.texts(svg) if y > 220}


def test_what_is_constant_has_no_chart():
    fixed = flow(2, method="fixed")
    for layer in fixed["history"]["layers"].values():
        layer["beta"] = [0.2] * len(layer["beta"])
    assert len(views("training", [fixed])[0].panels) == len(HISTORY) - 1


def test_training_that_is_not_known():
    known, unknown = flow(2, method="lsg"), flow(2, method="fixed", history=None)
    assert views("training", [unknown]) == []
    (view,) = views("training", [known, unknown])
    assert [panel.drawing is None for panel in view.panels] == [False, True] * len(HISTORY)
    assert "gradient-flow.jsonl" in view.panels[1].note


def cells(svg, T, rows):
    """(rows, T) cells of the raster that have a dot."""
    found = np.zeros((rows, T), dtype=bool)
    ((ground, _, _),) = [e for e in reading.elements(svg, "rect") if e[0].get("fill") == LIGHT["shade"]]
    left, top, width, height = (float(ground.get(key)) for key in ("x", "y", "width", "height"))
    ((path, _, _),) = reading.elements(svg, "path")
    for x, y in re.findall(r"M([-\d.]+) ([-\d.]+)h", path.get("d")):
        row, t = (float(y) - top) / height * rows, (float(x) - left) / width * T
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
        svg = panel.drawing.svg()
        expected = [[digit == "1" for digit in row] for row in layer["spikes"]]
        assert cells(svg, T, len(expected)).tolist() == expected
        ((_, _, heading),) = [one for one in reading.texts(svg) if one[0] == "u / v_th"]
        ticks = [
            (float(e.text), float(e.get("y")) - 4) for e, _, y in reading.elements(svg, "text") if e.get("text-anchor") == "end"
        ]
        slope, origin = np.polyfit([y for _, y in ticks if y > heading], [value for value, y in ticks if y > heading], 1)
        lines = [(e, reading.points((e, 0, 0))) for e, _, _ in reading.elements(svg, "polyline")]
        (threshold,) = [points for e, points in lines if e.get("stroke") == LIGHT["ink"]]
        np.testing.assert_allclose(origin + slope * threshold[:, 1], 1, atol=0.03)
        (band,) = [origin + slope * reading.points(e)[:, 1] for e in reading.elements(svg, "polygon")]
        assert np.ptp(band) == pytest.approx(max(layer["traces"][0]["alpha"]), abs=0.06)
        for trace in layer["traces"]:
            where = ", ".join(map(str, trace["neuron"]))
            drawn = reading.group(svg, f"neuron {where}: {trace['role']}, {sum(u >= 1 for u in trace['u'])} spikes")
            for line in drawn.findall(reading.SVG + "polyline"):
                np.testing.assert_allclose(origin + slope * reading.points((line, 0, 0))[:, 1], trace["u"], atol=0.05)
        assert panel.layer == number
    assert panels[0].note.startswith("Sample 3: 75.0% of 40 neurons fire, rate ")
    assert [panel.note.split("; ")[1] for panel in panels[4:]] == ["all shown", "200 shown, evenly chosen"]


def test_raster_of_several_checkpoints_and_of_none():
    known, unknown = flow(2, method="lsg"), flow(3, method="fixed", activity=None)
    assert views("raster", [unknown]) == []
    (view,) = views("raster", [known, unknown])
    assert (view.columns, [panel.drawing is None for panel in view.panels]) == (2, [False, True, False, True])
    assert view.panels[2].title == "2 conv2, lsg"


def test_labels():
    def made(*pairs):
        return labels([{"method": method, "checkpoint": path} for method, path in pairs])

    assert made(("fixed", "a/x"), ("lsg", "b/x")) == ["fixed", "lsg"]
    assert made(("lsg", "runs/a/best.safetensors"), ("lsg", "runs/b/best.safetensors")) == ["lsg a", "lsg b"]
    assert made(("lsg", "best"), ("lsg", "best")) == ["lsg 1", "lsg 2"]
    assert made(("lsg", "a"), ("lsg", "b"), ("lsg", "b")) == ["lsg a", "lsg b 2", "lsg b 3"]
    assert labels([{}, {}]) == ["network 1", "network 2"]
