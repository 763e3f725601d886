"""Data sets that are downloaded, from a server of our own that has tiny archives."""

import hashlib
import io
import pickle
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lsgcli import registry
from lsgcli.data import manifest
from lsgcli.data.datasets import published
from lsgcli.data.datasets.base import SPLITS
from lsgcli.data.prepare import prepare
from lsgcli.errors import DataError
from tests.unit.data import hostile
from tests.unit.data.conftest import unchanged
from tests.unit.data.recordings_of import gesture, write_shd
from tests.unit.data.serving import ranged, status

NMNIST, GESTURES, SHD = (registry.get("dataset", name).archives for name in ("n-mnist", "dvs-gesture", "shd"))
EVENT = bytes([3, 4, 0x80, 0, 1])  # of N-MNIST: ON at x=3, y=4
AEDAT = b"#!AER-DAT2.0\r\n" + (10 << 8 | 100 << 1).to_bytes(4, "big") + bytes(4)


def zipped(members):
    return hostile.zipped(io.BytesIO(), members.items()).getvalue()


def tarred(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        hostile.add(archive, members.items())
    return stream.getvalue()


@pytest.fixture
def publish(site, monkeypatch):
    """Put an archive on the server, in place of the real one."""

    def make(table, key, content):
        file = table[key]
        site.pages[f"/{file.name}"] = ranged(content)
        url = f"{site.base}/{file.name}"
        here = file._replace(urls=(url,), md5=hashlib.md5(content).hexdigest())
        monkeypatch.setitem(table, key, here)
        return here

    return make


def asked(site):
    return [path.removeprefix("/") for path, _ in site.requests]


@pytest.fixture
def nmnist(publish):
    for split, file in list(NMNIST.items()):
        publish(NMNIST, split, zipped({f"{file.content}/{digit}/00001.bin": EVENT for digit in range(2)}))


@pytest.fixture
def gestures(publish):
    for split, file in list(GESTURES.items()):
        members = {f"{file.content}/user{i:02d}_led/{label}.npy": gesture([[5, 6, 1, 7]]) for i in (1, 2) for label in (0, 10)}
        publish(GESTURES, split, tarred(members))


@pytest.fixture
def spoken(publish, tmp_path):
    for split, file in list(SHD.items()):
        write_shd(tmp_path / "made", [[(0.0, 1), (0.5, 699)], [(0.1, 2)]], [0, 11])
        publish(SHD, split, zipped({file.content: (tmp_path / "made").read_bytes()}))


@pytest.fixture
def cifar(publish):
    for name in published.CIFAR_CLASSES:
        members = {f"{name}/cifar10_{name}_{number}.aedat": AEDAT for number in (0, 1, 900)}
        publish(published.CIFAR_DVS_FILES, name, zipped(members))


# --- what is published ------------------------------------------------------------------------------------------------


def test_facts_agree_with_tonics():
    """Names, addresses and checksums as another program has them."""
    import torchvision

    datasets = pytest.importorskip("tonic.datasets")
    for ours, theirs in ((NMNIST, datasets.NMNIST), (GESTURES, datasets.DVSGesture)):
        for split in SPLITS:
            file = ours[split]
            assert file.name == getattr(theirs, f"{split}_filename")
            assert file.md5 == getattr(theirs, f"{split}_md5")
            assert file.urls[0] == getattr(theirs, f"{split}_url")
    file, theirs = published.NCaltech101.archives["all"], datasets.NCALTECH101
    assert (file.name, file.md5, file.urls[0]) == (theirs.filename, theirs.file_md5, theirs.url)
    for split in SPLITS:
        file, theirs = SHD[split], datasets.SHD
        assert (file.name, file.md5) == (getattr(theirs, f"{split}_zip"), getattr(theirs, f"{split}_md5"))
        assert file.urls[0] == theirs.base_url + file.name
    for kind in ("CIFAR10", "CIFAR100"):
        file, theirs = registry.get("dataset", kind.lower()).archives["all"], getattr(torchvision.datasets, kind)
        assert (file.name, file.md5, file.urls) == (theirs.filename, theirs.tgz_md5, (theirs.url,))
        assert registry.get("dataset", kind.lower()).folder == theirs.base_folder
    for name in ("cifar-dvs", "n-mnist", "dvs-gesture", "n-caltech101", "shd"):
        assert hasattr(datasets, registry.get("dataset", name).folder)  # tonic calls the folder as its class
    assert list(published.GESTURES) == datasets.DVSGesture.classes
    assert datasets.DVSGesture.sensor_size[0] == published.DvsGesture.sensor_size[0]


# --- downloads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "served", "folder"),
    [("n-mnist", "nmnist", "NMNIST"), ("dvs-gesture", "gestures", "DVSGesture"), ("shd", "spoken", "SHD")],
)
def test_a_set_of_two_parts(config, site, tmp_path, request, name, served, folder):
    request.getfixturevalue(served)
    settings = config(name, data_dir=str(tmp_path), T=1, size=16, val_fraction=0)
    files = [file.name for file in registry.get("dataset", name).remote()]
    told = []
    dataset = registry.get("dataset", name)(settings, progress=lambda *report: told.append(report))
    test = dataset.scan(("test",)).samples
    assert asked(site) == files[1:]  # the training part was not asked for
    both = dataset.scan()
    assert asked(site) == [files[1], files[0]]
    assert both.part("test") == test
    dataset.scan()
    assert len(site.requests) == 2
    assert unchanged(tmp_path / folder)
    report = manifest.check(tmp_path / folder)
    there = [path.name for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert len(manifest.read(tmp_path / folder)) == len(there) - len([manifest.NAME, *files])
    assert set(report.extra) == set(files)
    assert {what for what, _, _ in told} >= {*files, *(f"unpacking {file}" for file in files), "hashing"}
    assert prepare(settings).test.x.shape[1:3] == (1, dataset.channels)
    published.spoken.cache_clear()


def test_two_at_once_share_one_download(config, site, tmp_path, nmnist):
    served, going = site.pages["/train.zip"], threading.Event()
    site.pages["/train.zip"] = lambda handler: (going.wait(20), served(handler))
    datasets = [registry.get("dataset", "n-mnist")(config("n-mnist", data_dir=str(tmp_path))) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        scans = [pool.submit(dataset.scan) for dataset in datasets]
        while not site.requests:
            time.sleep(0.01)
        time.sleep(0.2)
        going.set()
        assert [len(scan.result().samples) for scan in scans] == [4, 4]
    assert asked(site) == ["train.zip", "test.zip"]
    assert not list((tmp_path / "NMNIST").glob(".*"))


def test_n_caltech101(config, site, tmp_path, publish):
    """A zip of a zip."""
    members = {
        f"Caltech101/{name}/image_{i:04d}.bin": EVENT for name in ("ant", "Faces_easy", "BACKGROUND_Google") for i in range(20)
    }
    outer = {"N-Caltech101-archive/Caltech101.zip": zipped(members), "N-Caltech101-archive/Caltech101_annotations.zip": b""}
    publish(published.NCaltech101.archives, "all", zipped(outer))
    settings = config("n-caltech101", data_dir=str(tmp_path), T=1, size=16)
    listing = registry.get("dataset", "n-caltech101")(settings).scan()
    assert listing.classes == ("BACKGROUND_Google", "Faces_easy", "ant")
    assert listing.info["sensor"] == [240, 180]
    assert np.bincount([sample.label for sample in listing.part("test")]).tolist() == [2] * 3  # a tenth of each class
    assert registry.get("dataset", "n-caltech101")(settings).scan(("test",)).samples == listing.part("test")
    assert asked(site) == ["N-Caltech101-archive.zip"]
    assert unchanged(tmp_path / "NCALTECH101")
    assert {path.name for path in (tmp_path / "NCALTECH101").iterdir()} == {
        "Caltech101",
        "N-Caltech101-archive.zip",
        manifest.NAME,
    }


@pytest.mark.parametrize("below", ["", "Caltech101", "NCALTECH101/Caltech101"])
def test_n_caltech101_layouts(config, tmp_path, below):
    for name in "ab":
        (tmp_path / below / name).mkdir(parents=True)
        for i in range(4):
            (tmp_path / below / name / f"image_{i}.bin").write_bytes(EVENT)
    listing = registry.get("dataset", "n-caltech101")(config("n-caltech101", data_dir=str(tmp_path))).scan()
    assert listing.part("test")[0].key.startswith("a/")
    assert len(listing.samples) == 8


@pytest.fixture
def batches(publish, monkeypatch):
    """The published archive of CIFAR-10, with two images a batch: (its content, those of its test batch)."""
    import torchvision

    kind, images = torchvision.datasets.CIFAR10, np.arange(2 * 3072, dtype=np.uint64).reshape(2, 3072).astype(np.uint8)
    members, sums = {}, {}
    for name in [name for name, _ in (*kind.train_list, *kind.test_list)]:
        members[name] = pickle.dumps({"data": images, "labels": [0, 1]})
    members[kind.meta["filename"]] = pickle.dumps({"label_names": list(published.CIFAR_CLASSES)})
    for name, content in members.items():
        sums[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(kind, "train_list", [[name, sums[name]] for name, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [[name, sums[name]] for name, _ in kind.test_list])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums[kind.meta["filename"]]})
    content = tarred({f"{kind.base_folder}/{name}": content for name, content in members.items()})
    archives = registry.get("dataset", "cifar10").archives
    publish(archives, "all", content)
    return content, images


def test_cifar10(config, site, tmp_path, batches):
    settings = config("cifar10", data_dir=str(tmp_path / "d"), val_fraction=0)
    bundle = prepare(settings)
    assert (bundle.train.x.shape, bundle.test.x.shape) == ((10, 3, 32, 32), (2, 3, 32, 32))
    np.testing.assert_array_equal(bundle.test.x, batches[1].reshape(2, 3, 32, 32))
    assert bundle.classes == published.CIFAR_CLASSES
    assert bundle.mean[0] == pytest.approx(0.4914, abs=1e-4)
    prepare(settings)
    assert asked(site) == ["cifar-10-python.tar.gz"]
    assert len(manifest.read(tmp_path / "d" / "cifar-10-batches-py")) == 7
    file = tmp_path / "d" / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"{file.parent}: found a file that differs from the published one") as caught:
        prepare(settings)
    assert f"move {file.parent} away" in caught.value.hint
    assert "--dataset image-folder" in caught.value.hint
    assert "download=True" not in str(caught.value)
    file.unlink()
    with pytest.raises(DataError, match=r"data_batch_3: expected a file of the data set, found: .*No such file"):
        prepare(settings)


def test_cifar_dvs_is_downloaded(config, site, tmp_path, cifar):
    settings = config("cifar-dvs", data_dir=str(tmp_path / "new"), T=1, size=16, val_fraction=0)
    folder = tmp_path / "new" / "CIFAR10DVS"
    listing = registry.get("dataset", "cifar-dvs")(settings).scan()
    assert asked(site) == [f"{name}.zip" for name in published.CIFAR_CLASSES]
    assert (len(listing.part("train")), len(listing.part("test"))) == (20, 10)
    assert len(manifest.read(folder)) == 30
    assert (folder / "dog" / "cifar10_dog_900.aedat").read_bytes() == AEDAT
    registry.get("dataset", "cifar-dvs")(settings).scan()
    assert len(site.requests) == 10


def test_cifar_dvs_zips_that_are_there_are_unpacked(config, site, tmp_path, cifar, publish):
    for name in published.CIFAR_CLASSES[:9]:
        (tmp_path / f"{name}.zip").write_bytes(zipped({f"cifar10_{name}_{i}.aedat": AEDAT for i in (0, 1, 900)}))
        publish(published.CIFAR_DVS_FILES, name, (tmp_path / f"{name}.zip").read_bytes())  # without a folder in it
    listing = registry.get("dataset", "cifar-dvs")(config("cifar-dvs", data_dir=str(tmp_path))).scan()
    assert asked(site) == ["truck.zip"]
    assert len(listing.samples) == 30
    assert (tmp_path / "airplane" / "cifar10_airplane_0.aedat").is_file()


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("cat/cifar10_cat_0.aedat", "found no recordings of airplane"),
        ("CIFAR-10-DVS.zip", "CIFAR-10-DVS.zip: found an archive that is not extracted"),
        ("below/airplane.zip", "below/airplane.zip: found an archive that is not extracted"),
    ],
)
def test_cifar_dvs_nothing_is_downloaded_to_recordings_and_archives_of_the_user(config, site, tmp_path, cifar, place, told):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(b"")
    with pytest.raises(DataError, match=told):
        registry.get("dataset", "cifar-dvs")(config("cifar-dvs", data_dir=str(tmp_path))).scan()
    assert site.requests == []


# --- what is partly there ---------------------------------------------------------------------------------------------


def test_a_missing_part_is_not_fetched_into_data_of_the_users(config, site, tmp_path, nmnist):
    for digit in "01":
        (tmp_path / "Test" / digit).mkdir(parents=True)
        (tmp_path / "Test" / digit / "1.bin").write_bytes(EVENT)
    dataset = registry.get("dataset", "n-mnist")(config("n-mnist", data_dir=str(tmp_path)))
    assert len(dataset.scan(("test",)).samples) == 2
    with pytest.raises(DataError, match="the train part is missing"):
        dataset.scan()
    assert site.requests == []


def test_a_failed_second_archive_leaves_the_first_for_the_next_time(config, site, tmp_path, nmnist):
    served = site.pages["/test.zip"]
    site.pages["/test.zip"] = status(403)
    dataset = registry.get("dataset", "n-mnist")(config("n-mnist", data_dir=str(tmp_path)))
    with pytest.raises(DataError):
        dataset.scan()
    assert [path.name for path in (tmp_path / "NMNIST").iterdir()] == ["train.zip"]  # nothing looks finished
    site.pages["/test.zip"] = served
    assert len(dataset.scan().samples) == 4
    assert asked(site) == ["train.zip", "test.zip", "test.zip"]
