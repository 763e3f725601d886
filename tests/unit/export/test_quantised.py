"""Exports with integer weights: the logits of integer inference, the integers that are stored, and their size."""

import functools

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lsgcli import registry
from lsgcli.export import verify
from lsgcli.models.integer import deployed
from lsgcli.store import checkpoint
from tests.exports import exported, samples, saved, slow_if

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
WAYS = [("safetensors", None), ("hf", None), ("nir", None), ("onnx", "unroll"), ("onnx", "step")]
NETWORKS = ("mlp", "vggsnn", "resnet19-add")


def frames(config, size=6):
    batch = next(samples(config, size))
    batch.x.abs_().mul_(2).round_()
    return batch


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(network, quantize) -> path of an ONNX file; each is written once."""

    @functools.cache
    def make(which, quantize):
        folder = tmp_path_factory.mktemp(which)
        exported(saved(which, folder / "float.safetensors"), "onnx", folder / "out.onnx", quantize=quantize)
        return folder / "out.onnx"

    return make


def check_initializers(target, quantize, capfd):
    """Each is an input of a node, weights are of the type that was asked for, and onnxruntime has nothing to say about them."""
    graph = onnx.load(target).graph
    assert {weight.name for weight in graph.initializer} <= {name for node in graph.node for name in node.input}
    kinds = {weight.data_type for weight in graph.initializer if len(weight.dims) in (2, 4) and weight.dims[-1] > 1}
    assert kinds == {onnx.TensorProto.INT8 if quantize else onnx.TensorProto.FLOAT}
    capfd.readouterr()
    onnxruntime.InferenceSession(target)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("which", "form", "mode"),
    [
        slow_if(form == "onnx" or (w == "resnet19-add" and form != "safetensors"), w, form, mode)
        for w in NETWORKS
        for form, mode in WAYS
    ],
)
def test_an_export_gives_the_logits_of_integer_inference(which, form, mode, tmp_path, capfd):
    path = saved(which, tmp_path / "float.safetensors", width_multiplier=1 / 16)
    target = tmp_path / f"out{registry.get('format', form).suffix}"
    source = exported(path, form, target, mode=mode, quantize="int8")
    runner = registry.get("format", form)().open(target)
    batch = frames(runner.config)
    result = verify.verify(source.trained, source.written, runner, [batch], "out")
    assert (result["spikes_different"], result["ties"]) == (0, 0)
    with torch.inference_mode():
        expected = deployed(checkpoint.load(path)[0], "int8")(batch.x)
    torch.testing.assert_close(runner.run(batch.x).logits, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.01
    if form == "onnx":
        check_initializers(target, "int8", capfd)


@pytest.mark.parametrize("bits", [8, 4])
def test_the_integers_are_stored(bits, tmp_path):
    path = saved("mlp", tmp_path / "float.safetensors", weight_bits=bits)
    exported(path, "safetensors", tmp_path / "out.safetensors", quantize="int8")
    stored = load_file(tmp_path / "out.safetensors")
    weight, scale = stored["classifier.weight"], stored["classifier.weight_scale"]
    assert (weight.dtype, int(weight.abs().max())) == (torch.int8, 2 ** (bits - 1) - 1)
    found = checkpoint.load(tmp_path / "out.safetensors")[0]
    assert torch.equal(found.classifier.weight, weight * scale[:, None])
    assert all(tensor.dtype == torch.int8 for name, tensor in stored.items() if name.endswith(".weight"))


@pytest.mark.parametrize("quantize", [slow_if(True, None), "int8"])
@pytest.mark.parametrize("which", ["mlp", slow_if(True, "vggsnn")])
def test_openvino_runs_it(which, quantize, made, capfd):
    """A runtime that shares no code with onnxruntime, in float32; its default may be bfloat16."""
    check_initializers(made(which, quantize), quantize, capfd)
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    target = made(which, quantize)
    runner = registry.get("format", "onnx")().open(target)
    batch = frames(runner.config)
    compiled = openvino.Core().compile_model(str(target), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    try:
        found = compiled([batch.x.numpy()])["logits"]
    except RuntimeError as error:  # it compiles the product when it first runs
        if quantize and "could not create a primitive descriptor" in str(error):
            pytest.skip("openvino has no product with integer weights for this processor, such as one without AVX")
        raise
    expected = runner.run(batch.x).logits.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.std() > 0.01
