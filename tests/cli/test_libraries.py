"""`--dataset tonic:NAME` and `torchvision:NAME`, on small files in the layouts that these libraries read."""

import json

import pytest
from PIL import Image

from tests.unit.data.recordings_of import write_dvs_lip, write_fashion, write_nmnist, write_shd

TINY = ("--arch", "mlp", "-T", "2", "--size", "16", "--width-multiplier", "0.25", "--epochs", "1", "--batch-size", "4")


def write_shd_parts(root):
    recordings = [[(0.01 * k, (100 * i + 7 * k) % 700) for k in range(20)] for i in range(6)]
    for part in ("train", "test"):
        write_shd(root / "SHD" / f"shd_{part}.h5", recordings, [0, 19] * 3)


SETS = {
    "tonic:NMNIST": (write_nmnist, 10, 6),
    "tonic:DVSLip": (write_dvs_lip, 100, 6),
    "tonic:SHD": (write_shd_parts, 20, 6),
    "torchvision:FashionMNIST": (write_fashion, 10, 10),
}


@pytest.mark.parametrize("name", SETS)
def test_trains_and_evaluates_from_the_default_folder(lsg, tmp_path, name):
    write, classes, count = SETS[name]
    write(tmp_path / "data")
    trained = lsg("train", "--dataset", name, *TINY, "--workers", "0", "-q", status=0)
    assert trained.stdout.startswith(f"runs/{name.replace(':', '-')}-mlp-lsg/")
    result = lsg("eval", trained.stdout.strip(), "--json", status=0)
    record = json.loads(result.stdout)
    assert record["samples"] == count
    assert len(record["per_class"]) == classes
    info = lsg("data", "info", "--dataset", name, "--json", status=0)
    assert json.loads(info.stdout)["parts"]["test"] == count
    lsg("data", "show", "--dataset", name, "-T", "2", "-o", "sheet.png", status=0)
    with Image.open("sheet.png") as image:
        assert image.height > 100


def test_files_are_predicted_as_the_test_part_is(lsg, tmp_path):
    """The data set itself need not be there."""
    write_dvs_lip(tmp_path / "data")
    checkpoint = lsg("train", "--dataset", "tonic:DVSLip", *TINY, "--workers", "0", "-q").stdout.strip()
    accuracy = json.loads(lsg("eval", checkpoint, "--json").stdout)["accuracy"]
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    result = lsg("predict", checkpoint, tmp_path / "elsewhere" / "DVSLip" / "DVS-Lip" / "test", "--json", status=0)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert sum(answer["class"] in answer["path"] for answer in answers) / len(answers) == pytest.approx(accuracy)
