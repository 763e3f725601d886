from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lsgcli.errors import ConfigError
from lsgcli.report.sheet import OFF, ON, TILE, Row, draw, event_tiles, image_tile, write


def frames():
    """T = 2, 4 x 6: ON at row 0, column 1; OFF at row 3, column 5; both at row 2, column 2; half as many ON in the second."""
    made = np.zeros((2, 2, 4, 6), np.uint8)
    made[0, 0, 0, 1] = made[0, 1, 3, 5] = made[0, 0, 2, 2] = made[0, 1, 2, 2] = 4
    made[1, 0, 0, 1] = 2
    return made


def row(key="train/cup/a.aedat", label="cup"):
    tiles = event_tiles(frames())
    return Row(label, key, ("18 events",), tiles, [("0 - 1 ms",), ("1 - 2 ms",)])


def test_colours_of_events():
    first, second = event_tiles(frames())
    assert first.shape == (4, 6, 3)
    assert first.dtype == np.uint8
    assert tuple(first[0, 1]) == ON
    assert tuple(first[3, 5]) == OFF
    assert tuple(first[2, 2]) == (255, 255, 255)
    assert not first[1].any()
    assert tuple(second[0, 1]) < ON  # fewer events are darker, in the same scale
    assert second[0, 1].any()
    assert second[1:].sum() == 0


def test_on_and_off_differ_for_the_colour_blind():
    """Under simulated protanopia, deuteranopia and tritanopia (matrices of Machado et al. 2009, severity 1)."""
    matrices = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }

    def linear(colour):
        return (np.array(colour) / 255) ** 2.2

    for name, matrix in matrices.items():
        on, off = (np.clip(np.array(matrix) @ linear(colour), 0, 1) ** (1 / 2.2) * 255 for colour in (ON, OFF))
        assert np.abs(on - off).max() > 100, name
        assert min(on.max(), off.max()) > 120, name  # and neither drowns in the dark ground


def test_no_events_and_one_channel():
    assert not np.stack(event_tiles(np.zeros((1, 2, 3, 3), np.uint8))).any()
    one = np.zeros((1, 1, 3, 3), np.float16)
    one[0, 0, 1, 1] = 0.5
    assert tuple(event_tiles(one)[0][1, 1]) == ON


def test_images_of_one_channel_and_of_three():
    pixels = np.arange(72, dtype=np.uint8).reshape(3, 4, 6)
    for image in (pixels, pixels[:1]):
        assert np.array_equal(image_tile(image), np.stack(np.broadcast_to(image, (3, 4, 6)), -1))


def test_hot_pixels_do_not_darken_the_rest():
    made = np.ones((1, 2, 40, 40), np.uint8)
    made[0, 0, 5, 5] = 255
    assert tuple(event_tiles(made)[0][0, 0]) == (255, 255, 255)


@pytest.fixture
def written(monkeypatch):
    """Every line of text that is drawn, with its box: left, top, right, bottom."""
    lines = []
    plain = ImageDraw.ImageDraw.text

    def text(pen, at, words, **options):
        left, top, right, bottom = pen.textbbox(at, words, font=options["font"], anchor=options["anchor"])
        lines.append((words, (left, top, right, bottom)))
        plain(pen, at, words, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return lines


def test_tiles_lie_where_their_pixels_say(tmp_path):
    write(tmp_path / "a.png", draw("things", "T = 2", [row(), row("train/pen/b.aedat", "pen <&>")]))
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    place = np.argwhere((pixels == ON).all(-1))
    lower = place[place[:, 0] > 80]  # below the legend
    scale = 144 // 6
    assert len(lower) == 2 * scale * scale  # one pixel of each row, enlarged without smoothing
    top, left = lower[0]
    assert tuple(pixels[top + 3 * scale, left + 4 * scale]) == OFF
    assert tuple(pixels[top + 2 * scale, left + scale]) == (255, 255, 255)
    assert tuple(pixels[top + scale, left]) == TILE


def test_text_is_on_the_sheet_and_not_on_other_text(written):
    subtitle = "a folder with a long name, count slices, bilinear, most in a pixel 17 events"
    sheet = draw(
        "things", subtitle, [row(), row("train/" + "x" * 90 + "/theend.aedat", "a class with a name that is " + "long " * 9)]
    )
    words = [text for text, _ in written]
    assert {"things", subtitle, "cup", "18 events", "0 - 1 ms", "t = 2", "ON, brighter", "OFF, darker"} <= set(words)
    assert any(text.endswith("theend.aedat") for text in words)
    for text, (left, top, right, bottom) in written:
        assert 0 <= left <= right <= sheet.width, text
        assert 0 <= top <= bottom <= sheet.height, text
    for (text, first), (other, second) in combinations(written, 2):
        apart = first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1]
        assert apart, (text, other)


def test_a_sheet_beyond_all_measure_is_refused():
    tile = np.zeros((48, 48, 3), np.uint8)
    with pytest.raises(ConfigError, match="fewer samples") as caught:
        draw("", "", [Row("", "", (), [tile] * 1000, [()] * 1000)])
    assert "pixels" in caught.value.message
