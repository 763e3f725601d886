"""Image files: formats, and content that is no image of these formats."""

import inspect
import os
import warnings

import numpy as np
import pytest
import torchvision
from PIL import Image

from lsgcli import registry
from lsgcli.data.datasets.libraries import Torchvision
from lsgcli.data.images import LARGEST, read_image
from lsgcli.errors import DataError
from lsgcli.system.interpreter import filter_warnings

EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(trap) (w) file closefile\n"
    b'%ImageData: 8 8 8 3 0 1 1 "x"\n'
)


@pytest.mark.parametrize("name", ["ImageFolder", "DTD"])
def test_torchvision(name, config, tmp_path):
    """The files that torchvision would open by itself."""
    files = {
        "ImageFolder": "{0}/{1}.png",
        "DTD": "dtd/dtd/images/{0}/{1}.png",
    }
    root = tmp_path / "data"
    for label in "ab":
        for i in range(1, 6):
            path = root / files[name].format(label, i)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 6), (40 * i, 2, 3)).save(path, "PNG")
    if name == "DTD":
        (path.parents[2] / "labels").mkdir()
        for part, span in {"train": range(1, 5), "test": range(5, 6)}.items():
            (path.parents[2] / "labels" / f"{part}1.txt").write_text(
                "".join(f"{label}/{i}.png\n" for label in "ab" for i in span)
            )
    options = {"data_dir": str(root), "size": 6}
    dataset = registry.get("dataset", f"torchvision:{name}")(config(f"torchvision:{name}", **options), may_download=False)
    samples = dataset.scan().samples
    assert len(samples) == 10
    by_hand = {sample.key: dataset.library_object(sample.source[0])[sample.source[1]][0] for sample in samples}
    for sample in samples:
        assert np.array_equal(dataset.pixels(sample), np.asarray(by_hand[sample.key].convert("RGB")))
    file = root / files[name].format("b", 5)
    file.write_bytes(EPS)
    changed = registry.get("dataset", f"torchvision:{name}")(
        config(f"torchvision:{name}", **options), may_download=False
    ).scan()
    problems = []
    for old, sample in zip(samples, changed.samples, strict=True):
        try:
            changed.load(sample)
            assert sample.stamp == old.stamp
        except DataError as error:
            problems.append((error.message, sample.stamp != old.stamp))
    ((message, stamp_differs),) = problems
    assert message.startswith(f"{file}: expected an image: ")
    assert stamp_differs


def test_every_class_of_torchvision_that_opens_images_lists_its_files():
    for name, row in Torchvision.rows().items():
        kind = getattr(torchvision.datasets, name, None)
        source = "".join(inspect.getsource(one) for one in inspect.getmro(kind) if one.__module__.startswith("torchvision"))
        assert (row.files != "-") == ("Image.open" in source or "self.loader(" in source), name
        assert row.files == "-" or f"self.{row.files}" in source, name


def test_a_large_file_is_not_read(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    os.truncate(tmp_path / "a.png", LARGEST + 1)
    with pytest.raises(DataError, match=r"a.png: found a file of 536,870,913 bytes, expected at most 536,870,912"):
        read_image(tmp_path / "a.png")


def test_warnings_of_pillow_are_dropped(tmp_path):
    """About odd images that it decodes: a palette with a transparency for each colour."""
    odd = Image.new("P", (4, 4))
    odd.putpalette(bytes(range(256)) * 3)
    odd.save(tmp_path / "odd.png", transparency=bytes(range(200)))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        filter_warnings()
        read_image(tmp_path / "odd.png")
    assert warned == []
