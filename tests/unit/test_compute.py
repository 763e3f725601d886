"""Where to compute."""

import pytest
import torch

from lsgcli.compute import Compute, full_precision, pick_device
from lsgcli.errors import ConfigError


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(pick_device(name)) for name in ("auto", "cpu", "cuda", "cuda:1")] == ["cuda", "cpu", "cuda", "cuda:1"]
    for name in ("cuda:2", "tpu", "cuda:", "cuda:x"):
        with pytest.raises(ConfigError, match="--device"):
            pick_device(name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert str(pick_device("auto")) == "cpu"
    with pytest.raises(ConfigError, match="has 0 CUDA GPUs"):
        pick_device("cuda")


def test_precision():
    linear, x = torch.nn.Linear(3, 2), torch.ones(1, 3)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with Compute(torch.device("cpu"), precision).autocast():
            assert linear(x).dtype == dtype
    assert full_precision(x.bfloat16()).dtype == torch.float32
    assert full_precision(x.double()).dtype == torch.float64
