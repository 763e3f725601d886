"""Answers on files: prepared as in training, in the order given."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.stress import seeds
from lsgcli.cli.predict import Output
from lsgcli.data import summary
from lsgcli.data.datasets.base import Sample
from lsgcli.errors import ConfigError, DataError, clean
from lsgcli.inference.predict import Answer, Network, predict, running_probabilities
from lsgcli.models.fold import fold
from lsgcli.store import checkpoint
from tests.networks import CLASSES, saved
from tests.unit.data.conftest import aedat2_bytes, blob


@pytest.fixture
def written(tmp_path):
    """Seven recordings, and their paths in an order that is not the alphabet's."""
    paths = [tmp_path / f"{name}.aedat" for name in "gbdface"]
    for seed, path in enumerate(paths):
        path.write_bytes(aedat2_bytes(blob(seed, count=300 + 10 * seed)))
    return [str(path) for path in paths]


def by_hand(path, seed):
    """Logits (T, classes) of a recording of 300 + 10 seed events: T slices of equal count on a grid of 16 x 16."""
    events = blob(seed, count=300 + 10 * seed)
    frames = np.zeros((4, 1, 2, 16, 16), np.float32)
    for i, (x, y, _, on) in enumerate(events):
        k = next(k for k in range(4) if i < (k + 1) * len(events) // 4)
        frames[k, 0, 0 if on else 1, y // 8, x // 8] += 1
    with torch.inference_mode():
        return fold(checkpoint.load(path)[0])(torch.from_numpy(frames))[:, 0]


def test_answers_are_those_of_the_network(tmp_path, written):
    path = saved(tmp_path / "net.safetensors")
    answers = list(predict(path, written, batch_size=3))
    assert [answer.path for answer in answers] == written
    for seed, answer in enumerate(answers):
        logits = by_hand(path, seed)
        torch.testing.assert_close(answer.logits, logits, atol=1e-5, rtol=1e-5)
        means = np.cumsum(logits.numpy(), 0) / np.arange(1, 5)[:, None]
        expected = np.exp(means) / np.exp(means).sum(1, keepdims=True)
        np.testing.assert_allclose(answer.by_step, expected, atol=1e-5)
        assert answer.top()[0] == (CLASSES[expected[-1].argmax()], pytest.approx(expected[-1].max(), abs=1e-5))
        assert [name for name, _ in answer.top(9)] == [CLASSES[i] for i in np.argsort(-expected[-1])]


def test_folders_are_walked_in_the_order_of_their_paths(tmp_path, written):
    path = saved(tmp_path / "net.safetensors")
    for name in ("z/b.aedat", "z/a/c.AEDAT", "z/.hidden/d.aedat", "z/notes.txt", "empty/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(aedat2_bytes(blob(1)))
    errors = []
    given = [written[0], str(tmp_path / "z"), str(tmp_path / "empty")]
    answers = predict(path, given, on_error=lambda name, error: errors.append(error.message))
    assert [answer.path for answer in answers] == [written[0], str(tmp_path / "z/a/c.AEDAT"), str(tmp_path / "z/b.aedat")]
    assert len(errors) == 1
    assert f"{tmp_path / 'empty'}: found no files to predict" in errors[0]
    with pytest.raises(DataError, match="found no paths"):
        list(predict(path, []))


@pytest.mark.parametrize("dataset", ["image-folder", "digits"])
def test_images_are_normalised_as_in_training(dataset, tmp_path):
    path = saved(tmp_path / "net.safetensors", dataset=dataset)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (answer,) = predict(path, [tmp_path / "a.png"])
    seen = np.asarray(Image.fromarray(pixels).convert("L"))[None] if dataset == "digits" else np.moveaxis(pixels, -1, 0)
    x = torch.from_numpy((seen[None] / 255 - 0.4) / 0.2).float()
    with torch.inference_mode():
        torch.testing.assert_close(answer.logits, fold(checkpoint.load(path)[0])(x)[:, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("dataset", "orientation"), [("event-folder", "rotated-90"), ("cifar-dvs", "upright"), ("n-mnist", "upright")]
)
def test_a_file_is_prepared_as_the_data_set_prepares_it(dataset, orientation, tmp_path, written):
    """Each data set's own orientation, and what turns it, wherever the file lies and whatever it is called."""
    network = Network.open(saved(tmp_path / "net.safetensors", dataset=dataset, orientation=orientation))
    made = network.dataset()
    sample = Sample("key", 0, "test", written[0])
    expected = made.load(sample)
    np.testing.assert_array_equal(made.load_file(tmp_path / "g.aedat"), expected)
    (tmp_path / "g").write_bytes((tmp_path / "g.aedat").read_bytes())
    np.testing.assert_array_equal(made.load_file(tmp_path / "g"), expected)
    plain = Network.open(saved(tmp_path / "plain.safetensors"))
    assert (dataset == "n-mnist") == np.array_equal(plain.dataset().load(sample), expected)


def test_lines(tmp_path, written):
    answers = list(predict(saved(tmp_path / "net.safetensors"), written[:1]))
    (name, probability), (second, less), _ = answers[0].top(3)
    steps = [CLASSES[i] for i in answers[0].by_step.argmax(1).tolist()]
    path = clean(written[0], column=True)
    assert Output().prediction(answers[0]) == f"{path}\t{name}\t{probability:.4f}"
    assert Output(top=2).prediction(answers[0]) == f"{path}\t{name}\t{probability:.4f}\t{second}\t{less:.4f}"
    assert Output(by_step=True).prediction(answers[0]).split("\t")[3:] == steps
    unsure = Output(min_probability=(probability + less) / 2, top=2).prediction(answers[0]).split("\t")
    assert (unsure[1], unsure[3]) == (name, "?")
    assert Output(min_probability=1.0).prediction(answers[0]).split("\t")[1] == "?"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b/ü.aedat", "a b/ü.aedat"),
        ("a\tb\nc\r", r"a\tb\nc\r"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("back\\slash", r"back\\slash"),
        ("\x9b2J", r"\u009b2J"),
        ("\u202egpj", r"\u202egpj"),
        ("byte\udcff", r"byte\xff"),
        ("line\u2028, \ud800", r"line\u2028, \ud800"),
    ],
)
def test_names_reach_a_terminal_as_text(name, shown):
    assert clean(name, column=True) == shown
    assert clean("a\tb\nc\\d\x1b\udcff") == "a\tb\nc\\d\\x1b\\xff"  # text keeps line breaks, tabs and backslashes


def test_running_probabilities_of_extreme_logits():
    found = running_probabilities(torch.tensor([[[1e4, 0.0]], [[-1e4, 0.0]]]))
    assert torch.equal(found, torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]], dtype=torch.float64))


def test_of_equally_probable_classes_the_first_is_named():
    """As by the argmax of `lsg eval`: in bf16 the logits of two classes are often the same."""
    logits = torch.zeros(1, 40)
    answer = Answer("a", tuple(map(str, range(40))), logits, running_probabilities(logits)[-1])
    assert [name for name, _ in answer.top(40)] == list(answer.classes)


def test_counts_that_saturate_are_told_once(tmp_path, written, caplog):
    """2000 events of one pixel are 500 in each of four frames: 4 of 4 x 2 x 16 x 16 values."""
    path = saved(tmp_path / "net.safetensors", backend="reference")
    long = [str(tmp_path / f"long{i}.aedat") for i in range(2)]
    for one in long:
        (tmp_path / one).write_bytes(aedat2_bytes([(5, 5, t, True) for t in range(2000)]))
    list(predict(path, written))
    assert "saturate" not in caplog.text
    list(predict(path, [written[0], *long, *written[1:]], batch_size=2))
    assert caplog.text.count("saturate at 255") == 1
    assert f"{long[0]}: 8 of 4,096 values, in 2 of 9 recordings, saturate at 255, so events may be lost" in caplog.text


@pytest.fixture
def aedat4_is_missing(tmp_path, monkeypatch):
    """A recording of which the library is not installed."""
    monkeypatch.setitem(sys.modules, "aedat", None)
    path = tmp_path / "b.aedat4"
    path.write_bytes(seeds.aedat4(seeds.rows(1, 60, 128, 128)))
    return str(path)


def test_one_file_of_a_missing_library_among_others(tmp_path, written, aedat4_is_missing):
    path, errors = saved(tmp_path / "net.safetensors", backend="reference"), []
    given = [written[0], aedat4_is_missing, *written[1:]]
    answers = list(predict(path, given, on_error=lambda name, error: errors.append((name, error))))
    assert [answer.path for answer in answers] == written
    ((name, error),) = errors
    assert name == aedat4_is_missing
    assert "cannot be imported" in error.message
    assert "pip install 'lsgcli[aedat4]'" in error.message
    with pytest.raises(ConfigError, match="cannot be imported") as caught:  # nothing but such a file
        list(predict(path, [aedat4_is_missing], on_error=lambda name, error: None))
    assert "lsgcli[aedat4]" in caught.value.message


def test_a_file_that_is_larger_than_memory_is_one_error(tmp_path, written):
    """A sparse file: 4 TiB long, a few bytes on disk."""
    path, errors = saved(tmp_path / "net.safetensors", backend="reference"), []
    large = tmp_path / "large.aedat"
    large.write_bytes(aedat2_bytes(blob(1)))
    os.truncate(large, 1 << 42)
    answers = predict(path, [str(large), *written], on_error=lambda name, error: errors.append(error.message))
    assert [answer.path for answer in answers] == written
    assert errors[0].startswith(f"{large}: found 4,398,046,511,104 bytes, expected at most ")
    with pytest.raises(DataError, match="found 4,398,046,511,104 bytes"):
        list(predict(path, [str(large), *written]))


def test_facts_about_a_folder_with_one(written, aedat4_is_missing, tmp_path):
    found = summary.of_dataset(summary.found(tmp_path), workers=0)
    assert found["recordings"] == len(written)
    (bad,) = found["unreadable"]
    assert "pip install 'lsgcli[aedat4]'" in bad["problem"]
    verdict = summary.verify(summary.found(tmp_path), workers=0)
    assert list(verdict["unreadable"]) == ["b.aedat4"]
    with pytest.raises(DataError, match="cannot be imported"):
        summary.of_dataset(summary.found(Path(aedat4_is_missing)), workers=0)
