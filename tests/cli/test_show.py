"""``lsg show``: layers of a network, and where a checkpoint comes from."""

import json
import math
import re

import pytest
import torch
from safetensors.torch import load_file

from lsgcli.config.run import FIELDS


def test_layers_of_a_checkpoint(lsg, trained):
    """Compared with the tensors of its file; vggsnn at 1/32 of the width: 2, 4, pool, 8, 8, pool, 16, ..."""
    result = lsg("show", trained / "best.safetensors", "--json")
    assert result.exit_code == 0, result.stderr
    record, tensors = json.loads(result.stdout), load_file(trained / "best.safetensors")
    learned = {name: tensor for name, tensor in tensors.items() if "running" not in name and "num_batches" not in name}
    assert record["parameters"] == sum(tensor.numel() for tensor in learned.values())
    channels = [(3, 2), (2, 4), (4, 8), (8, 8), (8, 16), (16, 16), (16, 16), (16, 16)]
    sizes = [16, 16, 8, 8, 4, 4, 2, 2]
    layers, T = record["layers"], 2
    assert [layer["shape"] for layer in layers] == [
        *([out, size, size] for (_, out), size in zip(channels, sizes, strict=True)),
        [3],
    ]
    assert [layer["weights"] for layer in layers] == [*(9 * a * b for a, b in channels), 16 * 3 + 3]
    # A row of n pixels is reached by 3 n - 2 of the pairs of output and kernel column; the image is convolved once.
    passes = [1, *[T] * 7]
    macs = [t * a * b * (3 * n - 2) ** 2 for t, (a, b), n in zip(passes, channels, sizes, strict=True)]
    assert [layer["multiplications"] for layer in layers] == [*macs, T * 16 * 3]
    assert record["multiplications"] == sum(macs) + T * 16 * 3
    betas = [1 / (1 + math.exp(-tensor.item())) for name, tensor in tensors.items() if name.endswith(".b")]
    assert sorted(layer["decay"] for layer in layers[:-1]) == pytest.approx(sorted(betas), abs=1e-5)
    assert [layer["width"] for layer in layers[:-1]] == pytest.approx(
        [math.sqrt(1 + layer["decay"] ** 2) for layer in layers[:-1]], abs=1e-5
    )
    assert layers[-1]["threshold"] is None
    assert record["settings"] | {"epochs": 4, "batch_size": 8, "width_multiplier": 0.03125} == record["settings"]
    assert record["settings"].keys() <= FIELDS.keys() - {"lr", "method"}
    assert record["provenance"]["dataset"] == "image-folder"
    text = lsg("show", trained / "best.safetensors").stdout
    assert re.search(rf"best epoch: +{record['provenance']['best_epoch'] + 1}\n", text)  # from 1, as in `lsg train`
    assert record["provenance"]["versions"]["torch"] == torch.__version__


def test_a_network_by_name(lsg, monkeypatch):
    record = json.loads(lsg("show", "--arch", "mlp", "--json", "--width-multiplier", "0.5").stdout)
    assert [(layer["kind"], layer["weights"]) for layer in record["layers"]] == [
        ("conv1x1", 140 * 128),
        ("conv1x1", 128 * 128),
        ("linear", 128 * 20 + 20),
    ]
    for words, input_shape, classes in (
        (["--arch", "mlp", "--classes", "7"], [100, 1, 1, 140], 7),
        (["--dataset", "digits-dvs"], [4, 2, 32, 32], 10),  # its preset, its classes
        (["--dataset", "cifar10", "--classes", "10", "--arch", "resnet19", "-T", "2"], [3, 32, 32], 10),  # without its data
    ):
        record = json.loads(lsg("show", *words, "--json").stdout)
        assert (record["input"], record["layers"][-1]["shape"]) == (input_shape, [classes])
    monkeypatch.setenv("COLUMNS", "50")
    text = lsg("show", "--arch", "qkformer", "--size", "16").stdout
    assert "product of spikes" in text
    assert max(map(len, text.splitlines())) <= 60
