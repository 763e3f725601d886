"""Charts of an ablation against numpy."""

import json

import numpy as np
import pytest
from PIL import Image

from lsgcli.report.charts import over_runs
from lsgcli.report.comparison import charts, draw
from lsgcli.report.drawing import svg
from lsgcli.report.figures import sheet
from lsgcli.system import files
from tests.unit.report import reading
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
        layers = [{"name": f"conv{i}", "coverage": rng.random()} for i in range(LAYERS)]
        files.write_json(cell.path / "gradient-flow.json", {"layers": layers})
        found.setdefault(cell.config.method, []).append(cell.path)
    return found


def test_mean_and_deviation_over_seeds():
    runs = np.random.default_rng(0).random((3, 4))
    means, deviations = over_runs(runs.tolist())
    np.testing.assert_allclose(means, runs.mean(0))
    np.testing.assert_allclose(deviations, runs.std(0, ddof=1))
    assert over_runs([[0.5, 0.25], [None, 0.75, 1.0], [None]]) == ([0.5, 0.5, 1.0], [0.0, pytest.approx(0.125**0.5), 0.0])
    assert not any(over_runs([[0.5, 0.6]])[1])


def test_charts(rows, tmp_path):
    names = ["accuracy", "loss", "coverage"]
    assert list(charts(rows)) == names
    drawn = [path for path in draw(rows, tmp_path / "plots") if path.suffix == ".svg"]
    assert [path.stem for path in drawn] == names
    for path in drawn:
        text = " ".join(words for words, _, _ in reading.texts(path.read_text()))
        assert all(words in text for words in ("standard deviation of up to 2", *rows))


def test_coverage_by_layer(rows):
    """Read back from the picture."""
    records = [json.loads((path / "gradient-flow.json").read_text())["layers"] for path in rows["lsg"]]
    expected = np.mean([[layer["coverage"] for layer in layers] for layers in records], 0)
    drawn = svg(charts(rows)["coverage"].panels[0].chart)
    lines = [reading.points(placed) for placed in reading.marks(drawn, "line")]
    value = reading.scale(drawn, "Y")
    shown = [[value(y) for _, y in line] for line in lines if len(line) == LAYERS]
    assert any(np.allclose(values, expected, atol=0.005) for values in shown)


def test_alpha_and_beta_over_training(rows):
    """Figures 6 and 7 of the paper: the mean over seeds of each layer, read back from the picture; none of a width that stays."""
    made = {}
    for method, paths in rows.items():
        for path in paths:
            rng = np.random.default_rng([len(method), *path.name.encode()])
            for epoch in range(EPOCHS):
                alpha = rng.random(LAYERS) if method == "lsg" else np.ones(LAYERS)
                beta = np.full(LAYERS, 0.2) if method == "fixed" else rng.random(LAYERS)
                layers = [{"name": f"conv{i}", "alpha": alpha[i], "beta": beta[i]} for i in range(LAYERS)]
                files.append_json_line(path / "gradient-flow.jsonl", {"epoch": epoch, "layers": layers})
                made.setdefault(method, {}).setdefault(path, []).append((alpha, beta))
    found = charts(rows)
    drawn = [name for name in found if name.startswith(("alpha", "beta"))]
    assert drawn == ["beta-trainable-decay", "alpha-lsg", "beta-lsg"]
    for name, measure in (("alpha-lsg", 0), ("beta-lsg", 1)):
        expected = np.array(list(made["lsg"].values()))[:, :, measure].mean(0).T  # (layers, epochs)
        drawn = svg(found[name].panels[0].chart)
        lines = [reading.points(placed) for placed in reading.marks(drawn, "line")]
        value = reading.scale(drawn, "Y")
        shown = [[value(y) for _, y in line] for line in lines if len(line) == EPOCHS]
        np.testing.assert_allclose(shown, expected, atol=0.01)
        assert list(found[name].legend) == ["1 conv0", "2 conv1", "3 conv2"]
    assert "standard deviation of up to 2" in svg(sheet("", found["alpha-lsg"]))


def test_a_chart_names_only_the_deviation_that_it_draws(rows):
    """One seed has none."""
    one = {label: paths[:1] for label, paths in rows.items()}
    for name, view in charts(one).items():
        drawn = svg(sheet("", view))
        assert "standard deviation" not in drawn, name
        assert reading.marks(drawn, "area") == []
    assert len(reading.marks(svg(sheet("", charts(rows)["accuracy"])), "area")) == len(rows)


def test_a_figure_of_two_columns(rows, tmp_path):
    for suffix in (".pdf", ".svg", ".PNG"):
        (path,) = draw(rows, tmp_path / f"figure{suffix}")
        assert path.stat().st_size > 1000
    text = (tmp_path / "figure.svg").read_text()
    assert all(f">{words}</text>" in text for words in ("accuracy", "cross-entropy", *rows))
    with Image.open(tmp_path / "figure.PNG") as image:
        assert image.width == pytest.approx(884 * 300 / 135, rel=0.02)
    assert draw({}, tmp_path / "plots") == draw({}, tmp_path / "figure.svg") == []
