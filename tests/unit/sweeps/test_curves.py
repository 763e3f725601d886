"""Curves over seeds against numpy, and their charts."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from lsgcli.report.ablation_charts import charts, draw
from lsgcli.sweeps import curves
from lsgcli.system import files
from tests.unit.sweeps.helpers import plan, write_run

EPOCHS, LAYERS = 5, 3


@pytest.fixture
def rows(tmp_path):
    """Finished runs of three rows, two seeds each, of numbers that can be computed again."""
    planned = plan(tmp_path / "abl", {"method": "none"}, {"method": "trainable-decay"}, {"method": "lsg"})
    found = {}
    for cell in planned.cells():
        write_run(cell, 0.5)
        rng = np.random.default_rng([cell.row, cell.config.seed])
        for epoch in range(EPOCHS):
            accuracy, loss = rng.random(2)
            files.append_json_line(cell.path / "metrics.jsonl", {"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss})
            moves = epoch * rng.random() / 10
            layers = [
                {"name": f"conv{i}", "beta": 0.2 + moves * (cell.row > 0), "alpha": 1.0 + moves * (cell.row == 2)}
                for i in range(LAYERS)
            ]
            files.append_json_line(cell.path / "gradient-flow.jsonl", {"epoch": epoch, "layers": layers})
        layers = [{"name": f"conv{i}", "coverage": rng.random()} for i in range(LAYERS)]
        files.write_json(cell.path / "gradient-flow.json", {"layers": layers})
        found.setdefault(cell.config.method, []).append(cell.path)
    return found


def read(paths, name, *keys):
    """(seeds, points) array of a value in each line."""
    lines = [[json.loads(line) for line in (path / name).read_text().splitlines()] for path in paths]
    return np.array([[line[keys[0]] for line in run] for run in lines])


def test_mean_and_deviation_over_seeds(rows):
    for measure in ("accuracy", "loss"):
        curve = curves.by_epoch(rows, measure)[1]
        values = read(rows["trainable-decay"], "metrics.jsonl", f"val_{measure}")
        assert curve.label == "trainable-decay"
        assert curve.n == 2
        np.testing.assert_allclose(curve.mean, values.mean(0))
        np.testing.assert_allclose(curve.std, values.std(0, ddof=1))
    assert curves.evaluated_on(rows) == "val"
    (curve,) = curves.by_epoch({"none": rows["none"][:1]}, "accuracy")
    assert (curve.n, set(curve.std)) == (1, {0.0})
    path = rows["lsg"][0] / "metrics.jsonl"
    path.write_text(path.read_text() + json.dumps({"epoch": EPOCHS, "val_accuracy": None, "val_loss": None}) + "\n")
    assert len(curves.by_epoch(rows, "accuracy")[2].mean) == EPOCHS  # a gap ends a curve


def test_coverage_by_layer(rows):
    records = [json.loads((path / "gradient-flow.json").read_text())["layers"] for path in rows["lsg"]]
    expected = np.mean([[layer["coverage"] for layer in layers] for layers in records], 0)
    np.testing.assert_allclose(curves.coverage(rows)[2].mean, expected)


def test_what_is_fixed_has_no_curve(rows):
    assert curves.over_training(rows["none"], "beta") == []
    assert curves.over_training(rows["trainable-decay"], "alpha") == []
    layers = curves.over_training(rows["lsg"], "alpha")
    assert [curve.label for curve in layers] == ["conv0", "conv1", "conv2"]
    assert len(layers[0].mean) == EPOCHS


def test_charts(rows, tmp_path):
    assert list(charts(rows)) == [
        "accuracy",
        "loss",
        "coverage",
        "beta-trainable-decay",
        "alpha-lsg",
        "beta-lsg",
    ]
    written = draw(rows, tmp_path / "plots")
    drawn = [path for path in written if path.suffix == ".svg"]
    assert [path.stem for path in drawn] == list(charts(rows))
    for path in drawn:
        root = ElementTree.parse(path).getroot()
        assert root.tag.endswith("svg")
        text = " ".join(element.text or "" for element in root.iter() if element.tag.endswith("text"))
        assert ("mean over 2 seeds" if "-" in path.stem else "mean and standard deviation over 2 seeds") in text
        assert all(name in text for name in (rows if path.name in ("accuracy.svg", "coverage.svg") else ()))


def test_a_chart_names_only_the_deviation_that_it_draws(rows):
    """One seed has none."""
    one = {label: paths[:1] for label, paths in rows.items()}
    for name, drawing in charts(one).items():
        svg = drawing.svg()
        assert "standard deviation" not in svg, name
        assert ">1 seed</text>" in svg
        assert 'opacity="0.14"' not in svg
    assert 'opacity="0.14"' in charts(rows)["accuracy"].svg()


def test_a_figure_of_two_columns(rows, tmp_path):
    for suffix in (".pdf", ".svg", ".PNG"):
        (path,) = draw(rows, tmp_path / f"figure{suffix}")
        assert path.stat().st_size > 1000
    text = (tmp_path / "figure.svg").read_text()
    assert all(f">{words}</text>" in text for words in ("accuracy, val", "cross-entropy, val", *rows))
    with Image.open(tmp_path / "figure.PNG") as image:
        assert image.width == 7 * 300
    assert draw({}, tmp_path / "plots") == draw({}, tmp_path / "figure.svg") == []
