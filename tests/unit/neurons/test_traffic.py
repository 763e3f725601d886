"""The bytes of ``benchmarks.traffic`` against the accesses that Triton's interpreter makes; ``test_triton.py`` starts it."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks import traffic
from benchmarks.bench import cases
from benchmarks.bench.steps import inputs
from lsgcli import models
from lsgcli.models.fold import fold
from lsgcli.neurons.kernels.gpu import interpreted

pytestmark = pytest.mark.skipif(not interpreted(), reason="counts the accesses of Triton's interpreter")
CASES = {
    "vggsnn": cases.case("vggsnn", width=1 / 16, T=3, batch=2, size=16),
    "resnet19": cases.case("resnet19", width=1 / 16, T=2, batch=2, size=16),
}
VECTORS = ("mean", "factor", "shift", "beta", "v_th", "alpha", "by_du", "by_distance", "always")


@pytest.fixture
def accesses(monkeypatch):
    """Kernel -> argument -> bytes read and written, of the kernels run so far; lanes that share an address access it once."""
    from triton.runtime import interpreter

    found, launched, tensors = {}, [""], {}
    launch = interpreter.GridExecutor.__call__

    def recording(self, *arguments, **options):
        tensors.clear()
        for name, value in zip(self.arg_names, arguments, strict=False):
            if isinstance(value, torch.Tensor):
                end = sum((n - 1) * stride for n, stride in zip(value.shape, value.stride(), strict=True)) + 1
                tensors[name] = (value.data_ptr(), value.data_ptr() + end * value.element_size(), value.element_size())
        launched[0] = self.fn.__name__
        return launch(self, *arguments, **options)

    def count(pointers, mask):
        addresses = np.unique(np.broadcast_to(pointers.data, mask.data.shape)[mask.data.astype(bool)])
        if len(addresses):
            name, size = next((n, size) for n, (low, high, size) in tensors.items() if low <= addresses[0] < high)
            found.setdefault(launched[0], Counter())[name] += len(addresses) * size

    def counting(method):
        def access(self, pointers, *arguments):
            count(pointers, arguments[0] if method.__name__.endswith("load") else arguments[1])
            return method(self, pointers, *arguments)

        return access

    monkeypatch.setattr(interpreter.GridExecutor, "__call__", recording)
    for name in ("create_masked_load", "create_masked_store"):
        monkeypatch.setattr(interpreter.InterpreterBuilder, name, counting(getattr(interpreter.InterpreterBuilder, name)))
    return found


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("network", CASES)
def test_bytes_of_the_model_are_those_the_triton_kernels_access(network, precision, training, accesses):
    case = dataclasses.replace(CASES[network], mode="train" if training else "inference")
    x, labels = inputs(case)
    settings = {"T": case.T, "in_channels": case.channels, "input_size": case.size, "width_multiplier": case.width}
    model = models.build(network, **settings, backend="triton")
    model = model.train() if training else fold(model)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"), torch.set_grad_enabled(training):
        logits = model(x)
    if training:
        F.cross_entropy(logits.float().mean(0), labels).backward()
    expected = {}
    for layer in traffic.recorded(case)[0]:
        for kernel, counts in layer.traffic(traffic.SIZES[precision], training).items():
            expected.setdefault(kernel, Counter()).update(counts)
    small = {(kernel, name) for kernel in accesses for name in VECTORS} | {
        ("moments", "sums")
    }  # numbers for each channel, or block of it
    large = {
        kernel: {name: n for name, n in counts.items() if (kernel, name) not in small} for kernel, counts in accesses.items()
    }
    assert large == {kernel: {name: n for name, n in counts.items() if n} for kernel, counts in expected.items()}
