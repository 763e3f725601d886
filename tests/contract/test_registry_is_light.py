"""Names are listed without importing the things, since help pages and completion must not wait for torch; what they find."""

import inspect
import subprocess
import sys
from collections.abc import Sized

import pytest

from lsgcli import registry
from lsgcli.errors import ConfigError


def test_constants_of_the_register_are_those_of_the_classes():
    """Also of the rules and neurons of methods; ``python docs/generate.py`` writes them."""
    needed = {"arch": ("preset", "has_residual", "has_mlps"), "neuron": ("preset", "has_decay", "takes_order", "learns")}
    needed["dataset"] = ("preset", "static", "embedded", "takes_sensor")
    for kind in ("arch", "neuron", "method", "dataset", "format"):
        for name, listed in registry.facts()[kind].items():
            entry = registry.get(kind, name)
            assert registry.traits(kind, name) is listed
            pairs = [(listed, entry)]
            if kind == "method":
                pairs += [(listed.width, entry.width), (listed.neuron, entry.neuron)]
            for own, real in pairs:
                assert bool(own) == bool(real)
                constants = (
                    {key: value for key, value in vars(own).items() if key not in ("__doc__", "module", "width", "neuron")}
                    if own
                    else {}
                )
                for key, value in constants.items():
                    assert getattr(real, key) == value, (name, key)
            assert not set(needed.get(kind, ())) - set(vars(listed)), name
    for name in registry.names("loss"):
        parameters = inspect.signature(registry.get("loss", name)).parameters
        assert registry.takes("loss", name, "weights") == ("weights" in parameters), name


def test_every_module_can_be_imported_without_posix_and_none_needs_torchs_compiler():
    source = """
import pkgutil, signal, sys
from importlib import import_module
sys.modules |= {"fcntl": None, "resource": None, "termios": None, "pwd": None}
del signal.SIGHUP, signal.SIGUSR1
import lsgcli
for module in pkgutil.walk_packages(lsgcli.__path__, "lsgcli."):
    try:
        import_module(module.name)
    except ModuleNotFoundError as error:
        assert error.name == "triton", error  # built for Linux alone

import torch
from lsgcli import models
from lsgcli.system import memory
from lsgcli.analysis import gradflow
from lsgcli.data.batches import Batch
from lsgcli.training.signals import stop_on_signals
memory.check_address_space()
assert memory.peak_bytes() == 0
with stop_on_signals() as stop:
    assert not stop
net = models.build("vggsnn", width_multiplier=1 / 64, input_size=16, T=2)
gradflow.inspect(net, [Batch(torch.rand(2, 2, 2, 16, 16), torch.tensor([0, 1]), 0)])

from lsgcli.config.run import RunConfig
from lsgcli.runs.checks import check
from lsgcli.system.device import set_up
from lsgcli.training.optim import Optimizers
set_up(RunConfig())
check(RunConfig())
optimizers = Optimizers(net, RunConfig())
net(torch.rand(2, 2, 2, 16, 16)).sum().backward()
optimizers.step(1.0)
optimizers.zero_grad()
from lsgcli.models.fold import fold_in_place
with torch.device("meta"):
    fold_in_place(models.build("vggsnn", width_multiplier=1 / 64, input_size=16, T=2))
assert "torch._dynamo" not in sys.modules  # 2 s of every training, and of opening every export
assert "sympy" not in sys.modules or torch.__version__ < (2, 8)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


SHOW = """
import sys
from lsgcli.runs.describe import of_network
for arch in ("mlp", "vggsnn"):
    assert of_network({"arch": arch})["layers"]
assert {"torch._dynamo", "numba"}.isdisjoint(sys.modules)  # seconds of a table of shapes
"""


def test_layers_are_shown_without_compilers():
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_nearest_name_is_suggested():
    with pytest.raises(ConfigError, match="did you mean rectangular"):
        registry.get("surrogate", "rectangle")
    with pytest.raises(ConfigError, match="expected one of max-resnet18, mlp"):
        registry.get("arch", "perceptron")
    with pytest.raises(ConfigError) as caught:
        registry.get("arch", "x" * 100_000)
    assert len(str(caught.value)) < 600
    with pytest.raises(ValueError, match="unknown kind"):
        registry.register("flavour", "vanilla")


def test_an_abstract_class_may_be_called_as_a_function():
    registry._check("loss", "sized", Sized)


def test_a_name_belongs_to_one_module():
    registry.get("surrogate", "atan")

    def other(x, width):
        return x

    with pytest.raises(ValueError, match="registered twice"):
        registry.register("surrogate", "atan")(other)


@pytest.mark.parametrize("kind", sorted(registry.facts()))
def test_names_of_the_register_are_what_is_registered(kind):
    """In both directions: every name that is listed is there, and nothing else of the package is registered."""
    found = {name: registry.get(kind, name) for name in registry.names(kind)}
    assert found
    assert None not in found.values()
    of_package = {name for k, name in registry._entries if k == kind and (k, name) not in registry.installed()}
    assert of_package == set(registry.facts()[kind])
