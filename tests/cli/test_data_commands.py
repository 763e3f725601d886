"""lsg data info, show and verify; `--dataset tonic:NAME` and `torchvision:NAME`, on small files in the layouts of these libraries."""

import json
import shutil

import pytest
from PIL import Image

from lsgcli.data import manifest
from lsgcli.report.sheet import OFF, ON
from tests.unit.data.conftest import aedat2_bytes, blob
from tests.unit.data.recordings_of import write_dvs_lip, write_fashion, write_nmnist, write_shd


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Recordings of two classes of CIFAR10-DVS and one that is none, with their checksums."""
    out = tmp_path_factory.mktemp("made") / "recordings"
    for name in ("bird/cifar10_bird", "cat/cifar10_cat", "pen/pen"):
        for number in (0, 999):
            path = out / f"{name}_{number}.aedat"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(aedat2_bytes(blob(number, count=400)))
    manifest.write(out)
    return out


@pytest.fixture
def copied(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copied")


def test_info_json(lsg, made):
    result = lsg("data", "info", made, "--json", "--workers", "0", status=0)
    record = json.loads(result.stdout)
    assert record["recordings"] == 6
    assert record["classes"] == {"bird": 2, "cat": 2, "pen": 2}
    assert record["sensor"] == [128, 128]
    assert record["formats"] == {"aedat2": 6}
    assert 90_000 < record["duration_us"]["min"] <= record["duration_us"]["max"] <= 100_000
    one = json.loads(lsg("data", "info", made / "cat/cifar10_cat_999.aedat", "--json").stdout)
    assert one["recordings"] == 1
    assert 0 < one["events"] < record["events"]


def test_info_table(lsg, made):
    result = lsg("data", "info", made, "--workers", "0")
    for text in ("recordings", "128 x 128", "aedat2 6", "bird"):
        assert text in result.stdout
    assert "\x1b" not in result.stdout + result.stderr
    assert result.stderr == ""


def test_info_of_data_sets(lsg, made, images):
    record = json.loads(lsg("data", "info", "--dataset", "image-folder", "--data-dir", images, "--json").stdout)
    assert record["samples"] == 66
    assert record["parts"] == {"train": 48, "test": 18}
    assert record["size"] == [16, 16]
    assert "16 x 16" in lsg("data", "info", "--dataset", "image-folder", "--data-dir", images).stdout


def test_info_lists_what_cannot_be_read(lsg, copied):
    (copied / "cat/cifar10_cat_0.aedat").write_bytes(b"#!AER-DAT2.0\r\n\0")
    result = lsg("data", "info", copied, "--json", "--workers", "0", status=0)
    assert json.loads(result.stdout)["recordings"] == 5
    assert "1 recording cannot be read" in result.stderr
    assert "cifar10_cat_0.aedat: byte 14" in result.stderr
    alone = lsg("data", "info", copied / "cat/cifar10_cat_0.aedat", "--json")
    assert (alone.exit_code, alone.stdout) == (3, "")
    assert "byte 14" in alone.stderr


def test_verify(lsg, copied):
    record = json.loads(lsg("data", "verify", copied, "--json", "--workers", "0").stdout)
    assert record["ok"]
    assert record["manifest"]
    path = copied / "pen/pen_999.aedat"
    path.write_bytes(path.read_bytes()[:-8])
    (copied / "bird/cifar10_bird_0.aedat").unlink()
    bad = lsg("data", "verify", copied, "--json", "--workers", "0", status=3)
    record = json.loads(bad.stdout)
    assert not record["ok"]
    assert record["changed"] == ["pen/pen_999.aedat"]
    assert record["missing"] == ["bird/cifar10_bird_0.aedat"]
    assert "missing: bird/cifar10_bird_0.aedat" in bad.stderr
    assert "changed: pen/pen_999.aedat" in bad.stderr
    assert lsg("data", "verify", copied, "--write", "-q", "--workers", "0").exit_code == 0
    assert lsg("data", "verify", copied, "-q", "--workers", "0").exit_code == 0


def test_show_paths(lsg, made, tmp_path):
    sheet = tmp_path / "sheet.png"
    result = lsg("data", "show", made / "cat/cifar10_cat_0.aedat", made / "pen", "-o", sheet, "-T", "3", status=0)
    assert result.stdout == f"{sheet}\n"
    assert result.stderr == ""
    assert sheet.stat().st_size > 5000


def test_show_a_data_set(lsg, images, tmp_path):
    events, still = tmp_path / "a.png", tmp_path / "b.png"
    result = lsg("data", "show", "-o", events, "--samples", "3", "-T", "2", "--json")  # the default data set
    assert json.loads(result.stdout) == {"path": str(events), "samples": 3}
    result = lsg("data", "show", "--dataset", "image-folder", "--data-dir", images, "-o", still, "--samples", "5", status=0)
    assert colours(events) >= {ON, OFF}
    assert not colours(still) & {ON, OFF}  # nor a legend of them


def colours(path):
    with Image.open(path) as image:
        return {colour for _, colour in image.getcolors(1 << 24)}


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
