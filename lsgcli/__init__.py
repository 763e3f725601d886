"""lsg: spiking neural networks with a learnable surrogate gradient.

``import lsgcli as lsg``

==================  ====================================================================================
Networks
``LIF``             leaky integrate-and-fire neurons, a module that maps currents to spikes (T, B, ...)
``NeuronConfig``    settings of neurons: decay, threshold, method (width rule), surrogate, reset, ...
``build``           create a network by name: ``lsg.build("vggsnn", T=10, num_classes=10, in_channels=2)``
``load``            the network of a checkpoint
``synapses``        how networks compute convolutions and linear layers on CPUs, in a ``with`` block: dense, by spikes, or the faster of both
Data
``datasets``        names of the data sets
``prepare``         a data set's splits as arrays of frames or images
``batches``         mini-batches of a split, as tensors
Runs
``train``           train a network, like ``lsg train``
``evaluate``        accuracy, confusion matrix, firing rates of a checkpoint or a network, of lsg or any torch module
``predict``         classify recordings or images
``ablate``          variants of a run over several seeds, and whether they differ, like ``lsg ablate``
``tune``            search for the settings with the highest validation accuracy, like ``lsg tune``
``compare``         settings that differ between runs, and their results, like ``lsg compare``
``export``          write a network as ONNX, NIR, ..., like ``lsg export``
``inspect``         gradient flow per layer, of a checkpoint or any spiking network
``diagnose``        what is wrong with a network, and what to change
``watch``           why a training loop of your own does not learn, like ``lsg diagnose``
``experiments``     what makes a training function of yours learn, like ``lsg diagnose --try``
Extension
``register``        add a surrogate, method, neuron, network, data set, augmentation, loss, ... under a name
``LsgError``        base class of all expected errors
==================  ====================================================================================

These names are stable: from version 1.0 on, a name changes only after one minor version in which it is deprecated. Before 1.0, a minor
version may change them; CHANGELOG lists such changes. Everything else may change at any time, except what the documentation imports.
Names are loaded on first use; ``import lsgcli`` itself imports neither torch nor numpy.
"""

from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lsgcli.system.cpus import loading, waiting_passively
from lsgcli.system.interpreter import __version__ as __version__

if TYPE_CHECKING:
    from lsgcli.api import (
        ablate,
        build,
        compare,
        datasets,
        diagnose,
        evaluate,
        experiments,
        export,
        inspect,
        load,
        prepare,
        train,
        tune,
        watch,
    )
    from lsgcli.config.neuron import NeuronConfig
    from lsgcli.data.batches import batches
    from lsgcli.errors import LsgError
    from lsgcli.inference.predict import predict
    from lsgcli.models.convolution import synapses
    from lsgcli.neurons.lif import LIF
    from lsgcli.registry import register

__all__ = [
    "LIF",
    "LsgError",
    "NeuronConfig",
    "ablate",
    "batches",
    "build",
    "compare",
    "datasets",
    "diagnose",
    "evaluate",
    "experiments",
    "export",
    "inspect",
    "load",
    "predict",
    "prepare",
    "register",
    "synapses",
    "train",
    "tune",
    "watch",
]
_ELSEWHERE = {
    "LIF": "neurons.lif",
    "LsgError": "errors",
    "NeuronConfig": "config.neuron",
    "batches": "data.batches",
    "convolutions": "models.convolution",  # former name of synapses
    "predict": "inference.predict",
    "register": "registry",
    "synapses": "models.convolution",
}
_until_first_use = ExitStack()  # a script may import torch before it uses a name
_until_first_use.enter_context(waiting_passively())


def __getattr__(name: str) -> Any:
    if name not in (*__all__, *_ELSEWHERE):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with _until_first_use.pop_all(), loading():
        value = getattr(import_module(f"lsgcli.{_ELSEWHERE.get(name, 'api')}"), name)
    return globals().setdefault(name, value)  # of export, there is already the package, which can be called


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
