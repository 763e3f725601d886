"""The pictures as files: SVG, PNG and PDF show the same."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from lsgcli.report import drawing
from lsgcli.report.charts import path
from lsgcli.report.drawing import svg, template
from lsgcli.report.figures import sheets
from tests.exports import slow_if
from tests.flows import flow, hollow
from tests.unit.report import reading

NAMES = ["coverage", "coverage-mean-surrogate-e-h", "gain", "gain-without-pooling", "gain-predicted"]
NAMES += ["gain-predicted-from-the-weights", "gradient-norm", "potential", "raster"]
NAMES += ["steps-coverage", "steps-firing-rate", "steps-u-mean", "steps-u-std"]
NAMES += ["steps-dl-du-0", "steps-rho", "training"]


def write(flows, folder, most=None):
    """Some of the pictures, by default all: a PDF takes longest."""
    return drawing.save(dict(list(sheets(flows).items())[:most]), folder)


@pytest.mark.parametrize("most", [2, slow_if(True, None)])
def test_files(tmp_path, most):
    paths = write([flow(2, T=2), flow(2, T=2, method="fixed", seed=1)], tmp_path / "new" / "plots", most)
    assert [path.name for path in paths] == [f"{name}.{kind}" for name in NAMES[:most] for kind in ("svg", "png", "pdf")]
    assert sorted(path.name for path in (tmp_path / "new" / "plots").iterdir()) == sorted(path.name for path in paths)
    for vector, png, pdf in zip(paths[::3], paths[1::3], paths[2::3], strict=True):
        root = ET.parse(vector).getroot()
        with Image.open(png) as image:
            width, height = float(root.get("width")), float(root.get("height"))
            assert image.size == pytest.approx((300 / 135 * width, 300 / 135 * height), abs=1)
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            assert len(image.getcolors(1 << 24)) > 10
        text = vector.read_text(encoding="utf-8")
        assert "var(" not in text  # a file knows no page's colours
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
        assert pdf.read_bytes().startswith(b"%PDF")
        assert b"/FontFile2" in pdf.read_bytes()  # the font is embedded
        assert b"Helvetica" not in pdf.read_bytes()
        size = re.search(rb"/MediaBox ?\[0 0 ([\d.]+)", pdf.read_bytes())
        assert float(size[1]) == pytest.approx(72 / 135 * width, rel=1e-3)


def test_the_same_records_give_the_same_bytes(tmp_path):
    first, second = (write([flow(2, T=2)], tmp_path / name, 1) for name in ("a", "b"))
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    "flows",
    [
        [flow(17, T=100)],
        [flow(1, T=1, epochs=1)],
        [hollow(flow(2))],
        [hollow(flow(1, T=1))],
        [flow(2, checkpoint=f"{k}") for k in range(4)],
    ],
)
def test_nothing_lies_outside_its_sheet_or_on_something_else(flows):
    for name, chart in sheets(flows).items():
        drawn = svg(chart)
        assert not re.search(r'="[^"]*\b(NaN|Infinity)\b', drawn), name
        root = ET.fromstring(drawn)
        texts = reading.texts(drawn)[1:]  # without the title for screen readers
        for words, x, y in texts:
            assert -1 <= x <= float(root.get("width")), (name, words)
            assert 0 < y <= float(root.get("height")), (name, words)
        assert len({(round(x), round(y)) for _, x, y in texts}) == len(texts), name


def test_a_long_legend_takes_as_many_rows_as_it_needs():
    names = [f"a checkpoint with a long name {k}" for k in range(5)]
    (view,) = [chart for name, chart in sheets([flow(1, method=name) for name in names]).items() if name == "coverage"]
    places = {words: (x, y) for words, x, y in reading.texts(svg(view), "role-legend")}
    assert list(places) == names
    assert len({y for _, y in places.values()}) == 5


def test_legend_names_the_checkpoints():
    for name, chart in sheets([flow(2), flow(2, method="fixed")]).items():
        if name != "training":
            assert {"lsg", "fixed"} <= {words.rpartition(", ")[2] for words, *_ in reading.texts(svg(chart))}, name


def test_dots_are_where_they_belong_in_a_png(tmp_path):
    spikes = [{"path": path([(20, 30), (100, 60)]), "size": 12}]
    chart = {"description": "", **template("raster", spikes=spikes, ends=[{"neuron": 1}, {"neuron": 9}])}
    drawing.save({"dots": chart}, tmp_path)
    ((_, left, top), *_) = reading.marks((tmp_path / "dots.svg").read_text(), "symbol")
    zoom = 300 / 135
    with Image.open(tmp_path / "dots.png") as image:
        dark = np.asarray(image.convert("RGB"))[..., 0] < 100
    for x, y in ((20, 30), (100, 60)):
        column, row = round((left + x) * zoom), round((top + y) * zoom)
        around = dark[row - 20 : row + 20, column - 20 : column + 20]
        assert around.sum() == pytest.approx(np.pi * (6 * zoom) ** 2, rel=0.06)
        assert np.argwhere(around).mean(0) == pytest.approx([20, 20], abs=1)


def test_names_that_xml_cannot_hold():
    for chart in sheets([flow(1, checkpoint="a\x1b[31m\ud800/x.safetensors", method="\x00")]).values():
        ET.fromstring(svg(chart))
