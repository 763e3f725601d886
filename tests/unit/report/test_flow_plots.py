"""The pictures as files: SVG, PNG and PDF show the same."""

import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from lsgcli.report import drawing
from lsgcli.report.charts import drawn_legend
from lsgcli.report.drawing import Drawing, box, dot, group, line, styles, text
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
    for svg, png, pdf in zip(paths[::3], paths[1::3], paths[2::3], strict=True):
        root = ET.parse(svg).getroot()
        with Image.open(png) as image:
            width, height = float(root.get("width")), float(root.get("height"))
            assert image.size == pytest.approx((300 / 135 * width, 300 / 135 * height), abs=1)
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            assert len(image.getcolors(1 << 24)) > 10
        text = svg.read_text(encoding="utf-8")
        assert "var(" not in text  # a file knows no page's colours
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
        assert pdf.read_bytes().startswith(b"%PDF")
        assert b"/FontFile2" in pdf.read_bytes()  # the font is embedded
        assert b"Helvetica" not in pdf.read_bytes()
        size = re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", pdf.read_bytes())
        assert float(size[1]) == pytest.approx(72 / 135 * width, rel=1e-3)


def test_pdf_is_left_out_without_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "find_spec", lambda name: None)
    assert {path.suffix for path in write([flow(1)], tmp_path, 2)} == {".svg", ".png"}


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
    for name, sheet in sheets(flows).items():
        svg = sheet.svg()
        assert not re.search(r'="[^"]*\b(nan|inf)\b', svg), name
        texts = reading.texts(svg)
        for words, x, y in texts:
            assert -1 <= x <= sheet.width, (name, words)
            assert 0 < y <= sheet.height, (name, words)
        assert len({(round(x), round(y)) for _, x, y in texts}) == len(texts), name


def test_a_long_legend_takes_as_many_rows_as_it_needs():
    entries = [(f"a checkpoint with a long name {k}", style) for k, style in enumerate(styles(5))]
    marks, height = drawn_legend(entries, 420)
    svg = Drawing(420, height, marks, "").svg()
    rows = [y for _, _, y in reading.texts(svg)]
    assert len(set(rows)) == 5
    assert rows == sorted(rows)
    assert rows[-1] < height <= rows[-1] + 18


def test_legend_names_the_checkpoints():
    for name, sheet in sheets([flow(2), flow(2, method="fixed")]).items():
        if name != "training":
            assert {"lsg", "fixed"} <= {words.rpartition(", ")[2] for words, *_ in reading.texts(sheet.svg())}, name


@pytest.fixture
def pixels(monkeypatch):
    """Draws marks at one pixel a unit."""
    monkeypatch.setattr(drawing, "DPI", drawing.INCH)

    def drawn(*marks):
        png = drawing.png(Drawing(40, 30, marks, ""))
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)

    return drawn


def test_png_has_the_marks_where_svg_has_them(pixels):
    image = pixels(group([box((10, 5), 8, 4, "#ff0000")], at=(3, -2)), dot((20, 20), "#000000", radius=6))
    assert (image[3:7, 13:21] == [255, 0, 0]).all()
    assert (image[:, :, 0] < 128).sum() == pytest.approx(np.pi * 36, rel=0.06)
    dark = pixels(line([(0, 15), (40, 15)], "#000000", 2, "6 4"))[15, :, 0] < 128
    assert dark[[1, 4, 11, 14, 21, 24, 31, 34]].all()
    assert not dark[[7, 8, 17, 18, 27, 28, 37, 38]].any()


def test_png_has_text_whatever_fonts_the_machine_has(pixels):
    dark = np.argwhere(pixels(text((20, 20), "E", "#000000", 12, "middle"))[:, :, 0] < 128)
    assert dark[:, 0].max() in (19, 20)
    assert dark[:, 1].mean() == pytest.approx(20, abs=1.5)


def test_names_that_xml_cannot_hold():
    for sheet in sheets([flow(1, checkpoint="a\x1b[31m\ud800/x.safetensors", method="\x00")]).values():
        ET.fromstring(sheet.svg())
