"""Data sets of tonic and torchvision, on small files of their layouts."""

import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import tonic
from PIL import Image

from lsgcli import registry
from lsgcli.data.prepare import prepare
from lsgcli.errors import DataError, MissingPart
from tests.unit.data.conftest import listed
from tests.unit.data.recordings_of import write_dvs_lip, write_fashion, write_nmnist, write_shd


def opened(config, name, root, **options):
    return registry.get("dataset", name)(config(name, data_dir=str(root), **options), may_download=False)


def test_events_labels_and_order_are_those_of_the_files(config, tmp_path):
    written = write_nmnist(tmp_path, digits=(3, 8), count=2)
    dataset = opened(config, "tonic:NMNIST", tmp_path).scan()
    assert [sample.key for sample in dataset.part("test")] == [
        f"test/NMNIST/Test/{digit}/0000{number}.bin" for digit in (3, 8) for number in (0, 1)
    ]
    assert [sample.label for sample in dataset.part("test")] == [3, 3, 8, 8]
    assert dataset.classes[8] == "8 - eight"
    assert dataset.sensor == (34, 34)
    for sample in dataset.samples:
        path = tmp_path / sample.key.partition("/")[2]
        assert listed(dataset.events(sample)) == written[str(path)]
        assert np.array_equal(dataset.load_file(path), dataset.load(sample))


def test_each_sample_has_a_label(config, tmp_path, monkeypatch):
    write_nmnist(tmp_path)
    monkeypatch.setattr("lsgcli.data.datasets.libraries.LibraryDataset.labels", lambda dataset, data: [0])
    with pytest.raises(ValueError, match="shorter"):
        opened(config, "tonic:NMNIST", tmp_path).scan()


def test_processes_open_the_files_themselves(config, tmp_path):
    write_nmnist(tmp_path)
    dataset = opened(config, "tonic:NMNIST", tmp_path).scan()
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy._objects == {}
    assert np.array_equal(copy.load(dataset.samples[-1]), dataset.load(dataset.samples[-1]))


def test_a_line_of_pixels(config, tmp_path):
    """T frames of equal duration, of 140 groups of five channels."""
    for part in ("train", "test"):
        write_shd(tmp_path / "SHD" / f"shd_{part}.h5", [[(0.0, 0), (0.001, 4), (0.5, 699)]] * 4, [0, 11] * 2)
    bundle = prepare(config("tonic:SHD", data_dir=str(tmp_path), T=2))
    assert (bundle.channels, bundle.height, bundle.classes[11]) == (1, 1, "eins")
    assert bundle.test.x.shape == (4, 2, 1, 1, 140)
    assert np.argwhere(bundle.test.x[0]).tolist() == [[0, 0, 0, 0], [1, 0, 0, 139]]
    assert bundle.test.x[0][0, 0, 0, 0] == 2
    assert bundle.test.y.tolist() == [0, 11, 0, 11]


def write_asl(root):
    for label in "ab":
        (root / "ASLDVS" / label).mkdir(parents=True)
        for i in range(10):
            arrays = {"ts": [5, 9], "x": [1, 239], "y": [0, 179], "pol": [1, 0]}
            columns = {name: np.array(values, np.int32)[:, None] for name, values in arrays.items()}
            scipy.io.savemat(root / "ASLDVS" / label / f"{label}_{i}.mat", columns)


def test_absent_data_are_downloaded_by_the_library(config, tmp_path, monkeypatch, capsys):
    def download(dataset):
        print("Downloading")
        write_asl(tmp_path)

    monkeypatch.setattr(tonic.datasets.ASLDVS, "download", download)
    settings = config("tonic:ASLDVS", data_dir=str(tmp_path))
    assert len(registry.get("dataset", "tonic:ASLDVS")(settings).scan().samples) == 20
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in (tmp_path / "ASLDVS").iterdir()) == ["a", "b"]


def test_an_archive_put_there_by_hand_is_unpacked(config, tmp_path):
    write_dvs_lip(tmp_path / "made", count=60)
    folder = tmp_path / "data" / "DVSLip"
    folder.mkdir(parents=True)
    shutil.make_archive(str(folder / "DVS-Lip"), "zip", tmp_path / "made" / "DVSLip")
    settings = config("tonic:DVSLip", data_dir=str(tmp_path / "data"))
    assert len(registry.get("dataset", "tonic:DVSLip")(settings).scan().samples) == 240


def test_without_a_test_part_a_tenth_of_each_class_is_drawn(config, tmp_path):
    write_asl(tmp_path)
    dataset = opened(config, "tonic:ASLDVS", tmp_path).scan()
    assert (dataset.rules, dataset.config.split, dataset.info["split"]) == (("stratified",), "stratified", "stratified")
    assert [sorted(sample.label for sample in dataset.part(part)) for part in ("train", "test")] == [[0] * 9 + [1] * 9, [0, 1]]
    assert listed(dataset.events(dataset.samples[0])) == [(1, 179, 5, True), (239, 0, 9, False)]  # rows counted from below


def test_recordings_named_in_one_file(config, tmp_path):
    """N-TIDIGITS18: samples of one digit alone; times in seconds."""
    (tmp_path / "NTIDIGITS18").mkdir()
    with h5py.File(tmp_path / "NTIDIGITS18" / "n-tidigits.hdf5", "w") as content:
        for part in ("train", "test"):
            content[f"{part}_labels"] = [b"man-ab-z", b"man-ab-12", b"man-ab-3"]
            for name in ("man-ab-z", "man-ab-12", "man-ab-3"):
                content[f"{part}_addresses/{name}"] = [7, 63]
                content[f"{part}_timestamps/{name}"] = [0.25, 0.5]
    dataset = opened(config, "tonic:NTIDIGITS18", tmp_path).scan(("test",))
    assert [dataset.classes[sample.label] for sample in dataset.samples] == ["z", "3"]
    assert listed(dataset.events(dataset.samples[0])) == [(7, 0, 250_000, True), (63, 0, 500_000, True)]
    assert dataset.shape == (100, 1, 1, 64)
    dataset.library_object("test").data.close()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda content: content + bytes([3, 34, 0, 0, 0]), ".*event 8: found x=3, y=34"),
        (lambda content: content[:7], "expected a sample that tonic can read"),
    ],
)
def test_a_damaged_file_names_the_sample(config, tmp_path, damage, told):
    path = Path(next(iter(write_nmnist(tmp_path))))
    path.write_bytes(damage(path.read_bytes()))
    dataset = opened(config, "tonic:NMNIST", tmp_path).scan()
    with pytest.raises(DataError, match=rf"tonic:NMNIST: train/NMNIST/Train/0/00000.bin: {told}"):
        dataset.load(dataset.part("train")[0])


def test_one_part_can_be_missing(config, tmp_path):
    write_nmnist(tmp_path)
    (tmp_path / "NMNIST" / "Train").rename(tmp_path / "away")
    assert len(opened(config, "tonic:NMNIST", tmp_path).scan(("test",)).samples) == 6
    with pytest.raises(MissingPart, match="found no tonic:NMNIST"):
        opened(config, "tonic:NMNIST", tmp_path).scan()


def test_grey_images(config, tmp_path):
    images = write_fashion(tmp_path)
    dataset = opened(config, "torchvision:FashionMNIST", tmp_path, size=28).scan()
    assert dataset.classes[9] == "Ankle boot"
    assert dataset.shape == (1, 28, 28)
    for image, sample in zip(images, dataset.part("test"), strict=True):
        assert np.array_equal(dataset.load(sample), image[None])
    Image.fromarray(images[0]).save(tmp_path / "one.png")
    assert np.array_equal(dataset.load_file(tmp_path / "one.png"), images[:1])
    first = opened(config, "torchvision:FashionMNIST", tmp_path).scan().samples[0].stamp
    path = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert opened(config, "torchvision:FashionMNIST", tmp_path).scan().samples[0].stamp != first


def test_a_folder_of_images(config, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.new("RGB", (8, 6), (i, 2, 3)).save(tmp_path / name / f"{i}.png")
    dataset = opened(config, "torchvision:ImageFolder", tmp_path, size=6).scan()
    assert dataset.classes == ("cat", "dog")
    assert (len(dataset.part("train")), len(dataset.part("test"))) == (8, 2)
    sample = dataset.samples[0]
    assert dataset.load(sample)[:, 0, 0].tolist() == [int(sample.key[-5]), 2, 3]
