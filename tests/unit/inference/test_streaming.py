"""Events as they come: decoded, cut into slices and answered as the whole recording would be."""

import dataclasses
import threading
import time

import numpy as np
import pytest
import torch

from lsgcli import models
from lsgcli.config.data import DataConfig
from lsgcli.data.events import Events
from lsgcli.data.frames import SLICINGS
from lsgcli.data.readers import base as readers
from lsgcli.errors import ConfigError, DataError
from lsgcli.export.runners import Runner, Stepwise, stepwise
from lsgcli.inference import stream as streaming
from lsgcli.inference.predict import Network, predict
from lsgcli.inference.stream import Slicer, stream
from lsgcli.models.integer import deployed
from lsgcli.neurons import NeuronConfig
from tests.exports import exported, slow_if
from tests.networks import saved
from tests.unit.data.conftest import HEADER, aedat2_bytes, blob


def pieces(content, rng, most):
    """The same bytes or events in pieces of 1 to ``most``."""
    start = 0
    while start < len(content):
        end = start + int(rng.integers(1, most + 1))
        yield content[start:end]
        start = end


def nmnist_bytes(events, overflows=()):
    """(x, y, t, on) as .bin; a time overflow of 2^13 us stands before each event whose index is given."""
    content = b""
    for i, (x, y, t, on) in enumerate(events):
        content += bytes([0, 240, 0, 0, 0]) if i in overflows else b""
        t -= (1 << 13) * sum(index <= i for index in overflows)
        content += bytes([x, y, on << 7 | t >> 16, t >> 8 & 255, t & 255])
    return content


NMNIST = [(x, y, 20_000 + t, on) for x, y, t, on in blob(3, count=200, side=34)]
LATE = [(x, y, 2**32 - 50_000 + t, on) for x, y, t, on in blob(4, count=200)]  # the counter passes its end


def decoded(name, chunks, known=(), sensor=(128, 128)):
    """The parts of a stream until its end or an error, and the error."""
    parts = []
    try:
        parts.extend(events for _, events in readers.read_stream(name, chunks, known, sensor))
    except DataError as error:
        return parts, error.message
    return parts, None


@pytest.mark.parametrize("most", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("name", "content"), [("a.aedat", aedat2_bytes(LATE)), ("a.bin", nmnist_bytes(NMNIST, overflows=(50, 51, 120)))]
)
def test_decoded_in_pieces_as_in_whole(name, content, most, tmp_path):
    (tmp_path / name).write_bytes(content)
    whole = readers.read(tmp_path / name)
    parts, error = decoded(name, pieces(content, np.random.default_rng(0), most))
    assert error is None
    for column in ("x", "y", "t", "on"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, column) for part in parts]), getattr(whole, column))


@pytest.mark.parametrize("most", [5, 100_000])
def test_what_is_whole_is_decoded_before_what_is_not(most):
    events = blob(0, count=10)
    bad = aedat2_bytes(events) + b"\xff" * 8 + aedat2_bytes(events, header=b"")
    outside = nmnist_bytes([*[(3, 4, 10, 1)] * 7, (34, 6, 30, 0), (1, 1, 40, 0)])
    for name, content, sensor, count, said in (
        ("a.aedat", bad, (128, 128), 10, f"a.aedat: byte {len(HEADER) + 80}: found address 0xffffffff"),
        ("a.aedat", bad[: len(HEADER) + 83], (128, 128), 10, f"byte {len(HEADER) + 80}: found 3 bytes, expected records of 8"),
        ("a.aedat", HEADER, (128, 128), 0, "found the end of the file, expected at least one event"),
        ("a.aedat", b"#!AER-DAT2.0\r\n" + b"#" * 70_000, (128, 128), 0, "more header"),
        ("a.bin", outside, (34, 34), 7, "a.bin: event 7: found x=34, y=6, expected x below 34 and y below 34"),
    ):
        parts, error = decoded(name, pieces(content, np.random.default_rng(0), most), sensor=sensor)
        assert sum(map(len, parts)) == count
        assert said in error


def test_formats_without_a_signature_are_those_of_the_training_or_of_the_name():
    content = nmnist_bytes(NMNIST)
    for name, known in (("a.bin", ()), ("-", ("nmnist-bin",))):
        assert {form for form, _ in readers.read_stream(name, [content], known, (34, 34))} == {"nmnist-bin"}
    for name, head, found in (("-", b"12345", "b'12345'"), ("-", b"", "b''"), ("a.bin", b"#!AER-DAT4.0\r\n", "aedat4")):
        _, error = decoded(name, [head], ("aedat2",))
        assert f"{name}: found {found}" in error
        assert "expected a format that supports streams" in error


def events_of(t):
    t = np.asarray(t, np.int64)
    return Events(np.arange(len(t), dtype=np.uint16), np.zeros(len(t), np.uint16), t, np.ones(len(t), bool))


def part(events, index):
    return Events(*(getattr(events, name)[index] for name in ("x", "y", "t", "on")))


def cut(slicer, events, most, seed=0):
    """Slices of events that come in pieces."""
    index = np.arange(len(events))
    found = [one for piece in pieces(index, np.random.default_rng(seed), most) for one in slicer.push(part(events, piece))]
    return [*found, *slicer.end()]


@pytest.mark.parametrize("most", [1, 9, 1000])
@pytest.mark.parametrize(("slicing", "length"), [("count", 97), ("time", None), ("window", 4 * 5000)])
def test_slices_are_those_of_the_whole_recording(slicing, length, most):
    """Of a recording of exactly the median length, all of them; of windows, those that the recording fills."""
    t = np.sort(np.random.default_rng(1).integers(1000, 31_000, 97))
    settings = DataConfig(T=4, size=16, slicing=slicing, window_us=5000)
    edges = SLICINGS[settings.slicing](t, settings, 0.0)
    slicer = Slicer(slicing == "count", 4, length or int(t[-1] - t[0]) + 1, "-")
    found = [len(one.events) for one in cut(slicer, events_of(t), most)]
    assert found[:4] == np.diff(edges).tolist()
    assert len(found) == {"count": 4, "time": 4, "window": (t[-1] - t[0]) // 5000}[slicing]


def test_slices_go_on_and_empty_ones_count():
    slicer = Slicer(False, 2, 200, "-")
    found = cut(slicer, events_of([50, 60, 149, 150, 471, 549]), 2)
    assert [(len(one.events), one.t_us) for one in found] == [
        (3, (50, 150)),
        (1, (150, 250)),
        (0, (250, 350)),
        (0, (350, 450)),
        (2, (450, 550)),
    ]


def test_a_clock_that_was_set_neither_stops_nor_floods():
    """An event that is a little late counts in the open slice; a step back, or far ahead, is taken for no time at all."""
    slicer = Slicer(False, 1, 100, "-")
    loop = [0, 30, 60, 90, 85, 120]
    found = cut(slicer, events_of([*loop, *[t - 10**9 for t in loop], *[t + 10**12 for t in loop], 10**12 + 200]), 1)
    assert [len(one.events) for one in found] == [5, 4, 5, 4]


def test_time_that_stands_still_ends(monkeypatch):
    monkeypatch.setattr("lsgcli.inference.stream.MOST", 50)
    slicer = Slicer(False, 1, 100, "-")
    with pytest.raises(DataError, match="over 50 events in one slice"):
        cut(slicer, events_of([5] * 60), 10)


MODES = {"count": {}, "time": {"slicing": "time"}, "window": {"slicing": "window", "window_us": 20_000}}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("slicing", MODES)
def test_a_stream_is_answered_as_the_whole(slicing, precision, tmp_path):
    """In bf16 as well: between steps the membrane potential is kept in float32."""
    events = blob(6, count=400)
    duration = events[-1][2] - events[0][2] + 1
    path = saved(tmp_path / "net.safetensors", medians=(400, duration), **MODES[slicing])
    file = tmp_path / "a.aedat"
    file.write_bytes(aedat2_bytes(events))
    network = Network.open(path, precision=precision)
    (whole,) = predict(network, [file])
    answers = list(stream(network, str(file), idle=0))
    assert [(one.window, one.step) for one in answers[:4]] == [(0, 1), (0, 2), (0, 3), (0, 4)]
    for t, answer in enumerate(answers[:4]):
        torch.testing.assert_close(answer.logits, whole.logits[t], atol=1e-5, rtol=0)
        torch.testing.assert_close(answer.probabilities, whole.by_step[t], atol=1e-5, rtol=0)


def test_each_window_is_as_if_a_recording_began(tmp_path):
    first, second = blob(1, count=200), [(x, y, t + 100_000, on) for x, y, t, on in blob(2, count=200)]
    path = saved(tmp_path / "net.safetensors", medians=(200, 1))
    for name, events in (("a", first), ("b", second), ("both", first + second)):
        (tmp_path / f"{name}.aedat").write_bytes(aedat2_bytes(events))
    answers = list(stream(Network.open(path), str(tmp_path / "both.aedat"), idle=0))
    assert [(one.window, one.step) for one in answers] == [(w, t) for w in (0, 1) for t in (1, 2, 3, 4)]
    for window, whole in enumerate(predict(path, [tmp_path / "a.aedat", tmp_path / "b.aedat"])):
        found = torch.stack([one.logits for one in answers[4 * window :][:4]])
        torch.testing.assert_close(found, whole.logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("form", "mode"), [slow_if(True, "onnx", "step"), ("hf", None)])
def test_exports_answer_and_stream(form, mode, tmp_path):
    path, file = saved(tmp_path / "net.safetensors", medians=(200, 1)), tmp_path / "a.aedat"
    target = tmp_path / {"hf": "folder"}.get(form, f"net.{form}")
    exported(path, form, target, mode=mode)
    file.write_bytes(aedat2_bytes(blob(1, count=200)))
    (expected,) = predict(path, [file])
    (whole,) = predict(target, [file])
    steps = torch.stack([one.logits for one in stream(Network.open(target), str(file), idle=0)])
    torch.testing.assert_close(whole.logits, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(steps, expected.logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"dataset": "image-folder"}, "a network trained on images"),
        ({"normalise": "sample"}, "--normalise sample"),
        ({"medians": None}, "without the length"),
    ],
)
def test_what_cannot_stream_is_refused(settings, told, tmp_path):
    network = Network.open(saved(tmp_path / "net.safetensors", **settings))
    (tmp_path / "a.aedat").write_bytes(aedat2_bytes(blob(0)))
    with pytest.raises(ConfigError, match=told):
        next(stream(network, str(tmp_path / "a.aedat"), idle=0))


class Unrolled(Runner):
    def run(self, x):
        raise NotImplementedError


def test_slices_of_a_given_size(tmp_path):
    network = Network.open(saved(tmp_path / "net.safetensors", medians=None))
    (tmp_path / "a.aedat").write_bytes(aedat2_bytes(blob(0, count=60)))
    answers = list(stream(network, str(tmp_path / "a.aedat"), per_slice=13, idle=0))
    assert [one.events for one in answers] == [13] * 4
    with pytest.raises(ConfigError, match="per_slice: found 0"):
        next(stream(network, str(tmp_path / "a.aedat"), per_slice=0))
    windows = Network.open(saved(tmp_path / "windows.safetensors", slicing="window"))
    with pytest.raises(ConfigError, match="--per-slice: found 13, but the network"):
        next(stream(windows, str(tmp_path / "a.aedat"), per_slice=13))
    with pytest.raises(ConfigError, match="mode step"):
        next(stream(dataclasses.replace(network, source=Unrolled(network.stored)), str(tmp_path / "a.aedat")))


def test_a_growing_file_is_followed(tmp_path):
    """The answer for what is there comes while more is awaited; it ends when it has not grown for a while, or when told to."""
    network = Network.open(saved(tmp_path / "net.safetensors", medians=(40, 1)))
    content = aedat2_bytes(blob(0, count=40))
    file = tmp_path / "a.aedat"
    file.write_bytes(content[: len(HEADER) + 8 * 25 + 3])
    stop = threading.Event()
    answers = stream(network, str(file), idle=60, stop=stop.is_set)
    assert [next(answers).step for _ in range(2)] == [1, 2]
    with open(file, "ab") as more:
        more.write(content[len(HEADER) + 8 * 25 + 3 :])
    assert [next(answers).step for _ in range(2)] == [3, 4]
    stop.set()
    assert list(answers) == []
    began = time.monotonic()
    assert len(list(stream(network, str(file), idle=0.3))) == 4
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(("few", "variable", "used"), [(None, None, 1), (0, None, 2), (None, "2", 2)])
def test_a_small_network_uses_one_thread_unless_their_number_is_set(few, variable, used, tmp_path, monkeypatch):
    path = saved(tmp_path / "net.safetensors", medians=(200, 1))
    (tmp_path / "a.aedat").write_bytes(aedat2_bytes(blob(0)))
    network, seen, step = Network.open(path), [], Stepwise.step
    monkeypatch.setattr(Stepwise, "step", lambda *arguments: seen.append(torch.get_num_threads()) or step(*arguments))
    monkeypatch.setattr("lsgcli.inference.stream.FEW", streaming.FEW if few is None else few)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert [torch.get_num_threads() for _ in stream(network, str(tmp_path / "a.aedat"), idle=0)] == [2] * len(seen)
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {used}


def test_multiplications_of_a_timestep():
    """VGGSNN by hand: 3 x 3 kernels, with the size halved after every second of eight layers."""
    network = models.build("vggsnn", NeuronConfig(), T=2, num_classes=3, in_channels=2, width_multiplier=1 / 8, input_size=16)
    channels, sizes = (2, 8, 16, 32, 32, 64, 64, 64, 64), (16, 16, 8, 8, 4, 4, 2, 2)
    expected = sum(9 * c * d * size**2 for c, d, size in zip(channels[:-1], channels[1:], sizes, strict=True))
    assert stepwise(deployed(network.eval()), {}).macs == expected


def test_timesteps_that_saturate_are_told_once(tmp_path, caplog):
    (tmp_path / "a.aedat").write_bytes(aedat2_bytes([(5, 5, t, True) for t in range(4000)]))
    network = Network.open(saved(tmp_path / "net.safetensors", medians=(200, 1000), backend="reference"))
    assert len(list(stream(network, str(tmp_path / "a.aedat"), idle=0))) == 80
    assert not caplog.records
    assert len(list(stream(network, str(tmp_path / "a.aedat"), idle=0, per_slice=500))) == 8
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path / 'a.aedat'}: timestep 1 saturates at 255 events per pixel; use a smaller --per-slice"
    )
