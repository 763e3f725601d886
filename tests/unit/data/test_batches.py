import threading

import numpy as np
import pytest
import torch

from lsgcli.data import random
from lsgcli.data.batches import Batches, batches
from lsgcli.data.bundle import DataBundle, Split, spread
from lsgcli.errors import ConfigError
from tests.tiny import split


def made(count=23, static=False):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, 3, 12, 12) if static else (count, 4, 2, 12, 12)).astype(np.uint8)
    keys = [str(i) for i in range(count)]
    return Split(x, np.arange(count), random.ids(keys), keys)


def same(a, b):
    a, b = list(a), list(b)
    return len(a) == len(b) and all(
        p.index == q.index and torch.equal(p.x, q.x) and torch.equal(p.y, q.y) for p, q in zip(a, b, strict=True)
    )


AUGMENTED = {"batch_size": 4, "seed": 3, "epoch": 2, "shuffle": True, "augment": "crop,flip,roll,cutout", "static": False}


def test_frames_are_time_first_counts():
    split = made()
    batch = next(iter(Batches(split, 4, static=False)))
    assert batch.x.shape == (4, 4, 2, 12, 12)
    assert (batch.x.dtype, batch.y.dtype) == (torch.float32, torch.int64)
    np.testing.assert_array_equal(batch.x.numpy(), split.x[:4].swapaxes(0, 1))


def test_images_are_normalised():
    split = made(static=True)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    batch = next(iter(Batches(split, 5, mean=mean, std=std, static=True)))
    expected = (split.x[:5] / 255 - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
    np.testing.assert_allclose(batch.x.numpy(), expected, atol=1e-6)


def test_cutout_of_images_is_the_mean_colour():
    batch = next(iter(Batches(made(static=True), 5, augment="cutout", mean=(0.5,) * 3, std=(0.2,) * 3, static=True)))
    assert (batch.x == 0).all(dim=1).any()


@pytest.mark.parametrize(("count", "expected"), [(23, [4] * 5), (24, [4] * 6), (3, [3])])
def test_drop_last(count, expected):
    batches = Batches(made(count), 4, drop_last=True, static=False)
    assert [len(batch.y) for batch in batches] == expected
    assert len(batches) == len(expected)


def test_a_consumer_that_stops_leaves_no_threads():
    for batch in Batches(made(), **AUGMENTED, workers=3):
        if batch.index == 1:
            break
    batches = iter(Batches(made(), **AUGMENTED, workers=3))
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (("trian", 4), {}, "split: found 'trian', expected one of train, val, test"),
        ((3, 4), {}, "split: found 3, expected one of train"),
        (("train", 0), {}, "batch_size: found 0, expected an integer of at least 1"),
        (("train", 2.5), {}, r"batch_size: found 2\.5"),
        (("train", 4), {"shufle": True}, "unknown option 'shufle': did you mean shuffle"),
    ],
)
def test_what_batches_refuse(arguments, options, said):
    with pytest.raises(ConfigError, match=said):
        batches(prepared(), *arguments, **options)


def test_a_split_by_its_name():
    data = prepared()
    by_name, by_split = (list(batches(data, split, 16, shuffle=True)) for split in ("train", data.train))
    assert len(by_name) == len(by_split) > 1
    assert all(torch.equal(one.x, other.x) for one, other in zip(by_name, by_split, strict=True))


def prepared():
    x = np.random.default_rng(0).integers(0, 255, (40, 3, 2, 4, 4), dtype=np.uint8)
    split = Split(x, np.arange(40) % 2, np.arange(40, dtype=np.uint64), [str(n) for n in range(40)])
    return DataBundle(("a", "b"), split, split, split, 2, False, None, None)


def test_spread_reaches_over_the_whole_part():
    """So that samples in the order of their classes give all classes; none twice, and no more than there are."""
    whole = split(30, "test")
    for n, rows in ((1, [0]), (3, [0, 10, 20]), (4, [0, 7, 15, 22]), (30, range(30)), (99, range(30))):
        assert spread(whole, n).keys == [whole.keys[row] for row in rows]
    assert spread(whole, 0).keys == []
    for n, first, rows in ((1, 29, [29]), (3, 25, [25, 5, 15]), (99, 2, [*range(2, 30), 0, 1])):
        assert spread(whole, n, first).keys == [whole.keys[row] for row in rows]


@pytest.mark.parametrize("start", [0, 1, 5, 6])
@pytest.mark.parametrize("workers", [0, 2])
def test_resume_in_the_middle(start, workers):
    rest = Batches(made(), **AUGMENTED, start=start, workers=workers)
    assert len(rest) == 6
    assert same(list(Batches(made(), **AUGMENTED))[start:], rest)
