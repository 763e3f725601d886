"""The pictures as files: SVG and PNG show the same."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from lsgcli.report.marks import Area, Box, Dot, Group, Line, Text
from lsgcli.report.svg import drawn_legend
from PIL import Image

from lsgcli.errors import StorageError
from lsgcli.report.colours import styles
from lsgcli.report.drawing import Drawing
from lsgcli.report.flow_plots import sheets, write
from tests.flows import flow, hollow
from tests.unit.report import reading

NAMES = [
    "coverage",
    "coverage-mean-surrogate-e-h",
    "gradient-norm",
    "potential",
    "steps-coverage",
    "steps-firing-rate",
    "steps-u-mean",
    "steps-u-std",
]
NAMES += ["steps-dl-du-0", "steps-rho", "training"]


def test_files(tmp_path):
    paths = write([flow(2, T=2), flow(2, T=2, method="none", seed=1)], tmp_path / "new" / "plots")
    assert [path.name for path in paths] == [f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")]
    assert sorted(path.name for path in (tmp_path / "new" / "plots").iterdir()) == sorted(path.name for path in paths)
    for svg, png in zip(paths[::2], paths[1::2], strict=True):
        root = ET.parse(svg).getroot()
        with Image.open(png) as image:
            assert image.size == (round(2 * float(root.get("width"))), round(2 * float(root.get("height"))))
            assert len(image.getcolors(1 << 24)) > 10
        text = svg.read_text(encoding="utf-8")
        assert "var(" not in text  # a file knows no page's colours
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_the_same_records_give_the_same_bytes(tmp_path):
    first, second = (write([flow(2, T=2)], tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        write([flow(1)], tmp_path / "file" / "plots")


@pytest.mark.parametrize(
    "flows", [[flow(17, T=10)], [flow(1, T=1)], [hollow(flow(2))], [flow(2, checkpoint=f"{k}") for k in range(4)]]
)
def test_nothing_lies_outside_its_sheet_or_on_something_else(flows):
    for name, drawing in sheets(flows).items():
        texts = reading.texts(drawing.svg())
        for text, x, y in texts:
            assert -1 <= x <= drawing.width, (name, text)
            assert 0 < y <= drawing.height, (name, text)
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
    for name, drawing in sheets([flow(2), flow(2, method="none")]).items():
        if name != "training":
            assert {"lsg", "none"} <= {text.rpartition(", ")[2] for text, *_ in reading.texts(drawing.svg())}, name


def pixels(*marks, size=(40, 30)):
    return np.asarray(Image.open(io.BytesIO(Drawing(*size, marks, "").png(scale=1))).convert("RGB")).astype(int)


def test_marks_are_painted_where_svg_has_them():
    image = pixels(Box(10, 5, 8, 4, "#ff0000"))
    red = (image == [255, 0, 0]).all(2)
    assert red.sum() == 32
    assert red[5:9, 10:18].all()
    assert (image[~red] == 255).all()
    moved = pixels(Group([Box(10, 5, 8, 4, "#ff0000")], dx=3, dy=-2))
    assert (moved[3:7, 13:21] == [255, 0, 0]).all()
    half = pixels(Box(0, 0, 40, 30, "#000000", 0.5))
    assert abs(half - 127).max() <= 1
    triangle = pixels(Area([(0, 0), (40, 0), (0, 30)], "#000000"))
    assert (triangle[:, :, 0] < 128).mean() == pytest.approx(0.5, abs=0.05)
    assert (triangle[2, 2] == 0).all()
    assert (triangle[28, 38] == 255).all()
    line = pixels(Line([(0, 15), (40, 15)], "#000000", 2))
    assert (255 - line[:, 20, 0]).sum() == pytest.approx(2 * 255, abs=10)  # its width, wherever its edges lie
    assert line[15, 20, 0] == 0
    dot = pixels(Dot(20, 15, "#000000", "circle", 10))
    assert (dot[:, :, 0] < 128).sum() == pytest.approx(np.pi * 100, rel=0.06)
    ring = pixels(Dot(20, 15, "#000000", "circle", 10, ring=True))
    assert (ring[15, 20] == 255).all()


def test_text_is_painted_on_its_base_line():
    image = pixels(Text(20, 20, "E", "#000000", 12, "middle"))
    dark = np.argwhere(image[:, :, 0] < 128)
    assert dark[:, 0].max() in (19, 20)
    assert dark[:, 1].mean() == pytest.approx(20, abs=1.5)


def test_dashes():
    image = pixels(Line([(0, 15), (20, 15), (40, 15)], "#000000", 2, (6, 4)))
    dark = image[15, :, 0] < 128
    assert dark[[1, 4, 11, 14, 21, 24, 31, 34]].all()
    assert not dark[[7, 8, 17, 18, 27, 28, 37, 38]].any()
