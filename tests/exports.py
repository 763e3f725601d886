"""Checkpoints of small networks that spike in every layer, and samples for them, for the tests of export."""

import copy

import pytest
import torch

from lsgcli import registry
from lsgcli.config.run import RunConfig
from lsgcli.data.batches import Batch
from lsgcli.export.base import chosen
from lsgcli.export.source import read
from tests import networks
from tests.unit.models.helpers import FIELD, SMALL, seasoned

# Every format in every mode that it has.
WAYS = [(name, mode) for name in registry.names("format") for mode in registry.get("format", name).modes or (None,)]
NETWORKS = list(SMALL)


def slow_if(wanted, *values):
    """Values of a parametrised test, which is slow if ``wanted``."""
    return pytest.param(*values, marks=[pytest.mark.slow] if wanted else [])


def traced(name, which):
    """Whether a format traces this network layer by layer, for seconds."""
    return name == "onnx" and which != "mlp"


def saved(which, path, **arguments):
    """A network that spikes, as a checkpoint that a run of training would have written."""
    net = seasoned(which, batch=8, dtype=torch.float32, **arguments)
    arch = (SMALL | FIELD)[which]["name"]
    static = "resnet" in arch or arch == "qkformer"
    settings = RunConfig(arch=arch, T=net.T, size=net.spec.input_size, dataset="cifar10" if static else "digits-dvs")
    classes = [f"class {i}" for i in range(net.spec.num_classes)]
    data = {"channels": net.spec.in_channels, "static": static, "mean": None, "std": None, "samples": "none"}
    return networks.as_trained(path, net, classes, settings, data)


def exported(path, form, target, *, T=None, faulty=None, **options):
    """Write a checkpoint in a format; ``faulty(network, content)`` changes what is written. -> (source, options)."""
    options = chosen(form, **options)
    found = read(path, form, options, T)
    network, content = copy.deepcopy(found.written), copy.deepcopy(found.content)
    if faulty is not None:
        faulty(network, content)
        content.weights = network.state_dict()
    writer = registry.get("format", form)()
    if writer.folder:
        target.mkdir()
    writer.write(network, content, target, options)
    return found


def samples(config, *sizes, seed=0):
    """Batches of so many random samples, such as the data set of ``config`` would give."""
    model, generator = config["model"], torch.Generator().manual_seed(seed)
    frame = (model["in_channels"], model["input_height"] or model["input_size"], model["input_size"])
    for index, size in enumerate(sizes):
        shape = (size, *frame) if config["data"]["static"] else (model["T"], size, *frame)
        yield Batch(torch.randn(shape, generator=generator), torch.zeros(size, dtype=torch.int64), index)


def by_ten_percent(network, layer=1):
    """The largest weight that feeds a layer, by 10 %."""
    with torch.no_grad():
        weight = network.spiking_layers()[layer].synapse.weight
        weight[torch.unravel_index(weight.abs().argmax(), weight.shape)] *= 1.1
