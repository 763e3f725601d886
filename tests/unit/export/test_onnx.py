"""The ONNX file itself: what it is called inside, that onnxruntime alone runs it, and that nothing else is in it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import lsgcli
from lsgcli.config.data import DataConfig
from lsgcli.data.events import Events
from lsgcli.data.frames import frames
from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.export import onnx as exporting
from tests.exports import exported, samples, saved, slow_if
from tests.unit.data.recordings_of import write_npz

PAGE = Path(lsgcli.__file__).parents[1] / "docs" / "export.md"
EXAMPLE = next(code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "step.onnx" in code)
WAYS = [
    slow_if(which != "vggsnn" or mode == "unroll", which, mode)
    for which in ("vggsnn", "resnet19-add")
    for mode in ("unroll", "step")
]
every_way = pytest.mark.parametrize(("which", "mode"), WAYS)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(network, mode) -> (path of the file, what was exported); each is written once."""
    folder, known = tmp_path_factory.mktemp("onnx"), {}

    def make(which, mode):
        if (which, mode) not in known:
            (folder / f"{which}-{mode}").mkdir()
            path = folder / f"{which}-{mode}" / "net.onnx"
            checkpoint = saved(which, folder / "checkpoint.safetensors")
            known[which, mode] = path, exported(checkpoint, "onnx", path, mode=mode)
        return known[which, mode]

    return make


def shape(value):
    return [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]


def logits_of(found, x):
    with torch.no_grad():
        return found.written(x).numpy()


@every_way
def test_names_shapes_and_opset(which, mode, made):
    path, found = made(which, mode)
    model = onnx.load(path)
    static, spec, layers = which == "resnet19-add", found.written.spec, found.written.spiking_layers()
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
    frame, what = ["batch", spec.in_channels, spec.height, spec.input_size], "image" if static else "frame"
    inputs, outputs = ({value.name: shape(value) for value in values} for values in (model.graph.input, model.graph.output))
    if mode == "unroll":
        assert inputs == {f"{what}s": frame if static else [3, *frame]}
        assert outputs == {"logits": [3, "batch", 10]}
        assert [value.name for value in model.graph.value_info] == [f"spikes.{layer.name}" for layer in layers]
    else:
        assert list(inputs) == [what, *(f"u.{layer.name}" for layer in layers)]
        assert list(outputs) == ["logits", *(f"u_next.{layer.name}" for layer in layers)]
        assert inputs[what] == frame
        assert outputs["logits"] == ["batch", 10]
        for layer in layers:
            assert inputs[f"u.{layer.name}"] == outputs[f"u_next.{layer.name}"]
            assert inputs[f"u.{layer.name}"][0] == "batch"


@every_way
def test_holds_the_weights_and_nothing_about_the_program(which, mode, made):
    """One file; weights under their own names; no stack traces or texts anywhere, and lsg's metadata alone."""
    path, found = made(which, mode)
    assert list(path.parent.iterdir()) == [path]
    model = onnx.load(path)
    weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    convolutions = [key for key in found.content.weights if ".conv." in key]
    assert convolutions
    for key in convolutions:
        assert np.array_equal(weights[key], found.content.weights[key].numpy())
    assert {prop.key for prop in model.metadata_props} == {"lsg.export_version", "lsg.config"}
    assert json.loads(model.metadata_props[1].value)["export"]["mode"] == mode
    assert not model.graph.doc_string
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


@pytest.mark.slow
def test_shapes_that_it_does_not_take(made):
    path, found = made("vggsnn", "unroll")
    x = next(samples(found.content.config, 2)).x
    runner = exporting.ONNX().open(path)
    for wrong in (x[:2], x[0], x[..., :8]):
        with pytest.raises(CheckpointError, match="frames"):
            runner.run(wrong)
    stepping = exporting.ONNX().open(made("vggsnn", "step")[0])
    assert stepping.run(x[:2]).logits.shape == (2, 2, 10)  # any number of steps
    with pytest.raises(CheckpointError, match="frame"):
        stepping.run(x[..., :8])


def test_a_file_of_others(made, tmp_path):
    """tests/contract/test_formats.py has files that are no ONNX, row 62 of the fault table graphs that do not run."""
    model = onnx.load(made("vggsnn", "step")[0])
    model.ClearField("metadata_props")
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match=r"net\.onnx"):
        exporting.ONNX().open(tmp_path / "net.onnx")


def test_more_than_a_file_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "MOST", 100)
    with pytest.raises(ConfigError, match=r"found \d+ bytes of weights"):
        exported(saved("mlp", tmp_path / "c.safetensors"), "onnx", tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_the_documented_example(made, tmp_path):
    """Twenty lines without torch, a recording frame by frame: the logits of the folded network, for frames as lsg makes them."""
    assert len(EXAMPLE.splitlines()) <= 20
    path, found = made("vggsnn", "step")
    rng, n = np.random.default_rng(0), 4001
    places = rng.integers(0, 64, (2, n))
    events = Events(*places.astype(np.uint16), np.arange(n), rng.random(n) < 0.4, (64, 64))
    write_npz(tmp_path / "recording.npz", events)
    script = f"{EXAMPLE}\nimport sys\nassert not {{'torch', 'lsgcli'}} & sys.modules.keys()\nnp.save('total.npy', total)"
    (tmp_path / "step.onnx").write_bytes(path.read_bytes())
    ran = subprocess.run([sys.executable, "-I", "-c", script], check=True, cwd=tmp_path, capture_output=True, text=True)
    x = torch.from_numpy(frames(events, (64, 64), DataConfig(T=3, size=16, resize="bin"))).float()
    expected = logits_of(found, x.unsqueeze(1)).cumsum(0)[:, 0]
    assert np.abs(np.load(tmp_path / "total.npy")[0] - expected[-1]).max() <= 1e-5
    assert ran.stdout.splitlines() == [f"{t} class {logits.argmax()}" for t, logits in enumerate(expected)]
    assert expected.std() > 0.01


@pytest.mark.parametrize("where", ["initializer", "constant"])
def test_weights_in_another_file_are_refused(made, tmp_path, where):
    path, _ = made("vggsnn", "step")
    (tmp_path / "secret").write_bytes(bytes(1 << 12))
    model = onnx.load(path)
    if where == "initializer":
        tensor = model.graph.initializer[0]
    else:
        node = model.graph.node.add(op_type="Constant", output=["unused"])
        node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
        tensor = node.attribute[0].t
        tensor.CopyFrom(model.graph.initializer[0])
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (tmp_path / "bad.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="found weights in another file"):
        exporting.ONNX().open(tmp_path / "bad.onnx")
