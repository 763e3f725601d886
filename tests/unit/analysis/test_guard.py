"""A watched training is not disturbed: no code of the script runs once more, no error of an observer reaches it, and it can be saved and deleted."""

import gc
import inspect
import io
import pickle
import signal
import weakref
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import lsgcli as lsg
from lsgcli.analysis.watch.guard import Guard
from lsgcli.analysis.watch.surrogates import equivalent_width, heights_by_distance, roundest
from lsgcli.analysis.watch.watch import Watch
from lsgcli.runs.script import record_of

CALLS = {"forward": 0, "backward": 0, "property": 0}


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        CALLS["forward"] += 1
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx, grad):
        CALLS["backward"] += 1
        (x,) = ctx.saved_tensors
        return grad / (1 + 5 * x.abs()) ** 2


class Neurons(nn.Module):
    @property
    def threshold(self):
        CALLS["property"] += 1
        raise RuntimeError("a property of the script")

    def forward(self, u):
        return Spike.apply(u - 1)


def made():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 40), Neurons(), nn.Linear(40, 3))
    return net, torch.optim.SGD(net.parameters(), 0.1), torch.randn(16, 5), torch.arange(16) % 3


def step(net, optimizer, x, y, forward=None):
    optimizer.zero_grad()
    loss = F.cross_entropy((forward or net)(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def test_surrogates_and_properties_are_not_called_once_more():
    CALLS.update(dict.fromkeys(CALLS, 0))
    net, *rest = made()
    with Watch() as watch:
        for _ in range(4):
            step(net, *rest)
    assert CALLS == {"forward": 4, "backward": 4, "property": 0}
    assert not watch.guard.failed
    (layer,) = watch.seen.records
    assert 0 < layer["alpha"] < 2
    assert 0 < layer["sg_mean"] < 1


def test_an_error_of_an_observer_is_noted_once_and_kept_from_the_script(monkeypatch):
    net, *rest = made()
    fails = Mock(side_effect=ValueError("of the observer"))
    with Watch() as watch:
        monkeypatch.setattr(watch.forward, "enters", fails)
        losses = [step(net, *rest) for _ in range(3)]
    assert len(losses) == 3
    assert fails.call_count == 1
    assert watch.guard.failed == {"modules": "ValueError: of the observer"}
    assert "modules could not be observed: ValueError: of the observer" in record_of(watch.seen)["unseen"]


@pytest.mark.parametrize("reentrant", [False, True])
def test_activations_that_are_computed_again_are_not_observed(reentrant):
    losses = []
    for watched in (False, True):
        net, optimizer, x, y = made()
        x.requires_grad_()
        inner = net[:2]
        forward = lambda x, net=net, inner=inner: net[2](checkpoint(inner, x, use_reentrant=reentrant))  # noqa: E731
        with Watch() if watched else io.StringIO() as watch:
            losses.append([step(net, optimizer, x, y, forward) for _ in range(3)])
    assert losses[0] == losses[1]
    assert watch.guard.failed == {}


def test_a_network_is_saved_and_deleted_while_it_is_watched():
    net, optimizer, x, y = made()
    plain = io.BytesIO()
    torch.save(net, plain)
    with Watch():
        F.cross_entropy(net(x), y).backward()
        optimizer.zero_grad()
        watched = io.BytesIO()
        torch.save(net, watched)
        assert pickle.loads(pickle.dumps(Spike.apply)) == Spike.apply
        step(net, optimizer, x, y)
        gone = weakref.ref(net)
        del net, optimizer
        gc.collect()
        assert gone() is None
    assert len(plain.getvalue()) == len(watched.getvalue())


def test_layers_of_lsg_are_copied_without_their_watchers():
    net = nn.Sequential(nn.Linear(5, 40), lsg.LIF(method="lsg"), nn.Linear(40, 3))
    with Watch():
        net(torch.randn(2, 4, 5))
        copied = pickle.loads(pickle.dumps(net))
        assert not isinstance(net[1].backend, str)  # it is observed
        assert isinstance(copied[1].backend, str)


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")  # of torch.jit
def test_patches_look_like_the_originals_and_are_removed():
    places = [
        (torch.autograd, "backward"),
        (torch.autograd.Function, "apply"),
        (torch._C._nn, "cross_entropy_loss"),
        (torch._VF, "dropout"),
        (torch.Tensor, "__gt__"),
        (torch.optim.Optimizer, "__init__"),
        (nn.Module, "_call_impl"),
    ]
    before = [inspect.getattr_static(owner, name, None) for owner, name in places]
    names = [(getattr(owner, name).__name__, getattr(owner, name).__doc__) for owner, name in places]
    with Watch():
        assert pickle.loads(pickle.dumps(torch.autograd.backward)) is torch.autograd.backward
        assert [(getattr(owner, name).__name__, getattr(owner, name).__doc__) for owner, name in places] == names
        scripted = torch.jit.script(_scripted)
    assert [inspect.getattr_static(owner, name, None) for owner, name in places] == before
    assert "dropout" not in vars(torch._VF)
    x = torch.randn(4, 3)
    assert torch.equal(scripted(x, torch.arange(4) % 3), _scripted(x, torch.arange(4) % 3))


def _scripted(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(F.dropout(x, 0.5, False), y) + F.mse_loss(x, x + 1)


def test_transforms_of_torch_are_not_observed():
    net, _, x, y = made()
    parameters = dict(net.named_parameters())

    def loss(parameters, x, y):
        return F.cross_entropy(torch.func.functional_call(net, parameters, (x[None],)), y[None])

    with Watch() as watch:
        each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0), randomness="error")
        with pytest.raises(RuntimeError, match="setup_context"):  # an error of torch about this surrogate
            each(parameters, x, y)
        plain = nn.Sequential(nn.Linear(5, 3))
        torch.func.jacrev(lambda x: plain(x).square())(x)
    assert watch.guard.failed == {}


class Uncounted(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad / (1 + 5 * x.abs()) ** 2


class Compiled(nn.Module):
    def forward(self, u):
        return Uncounted.apply(u - 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch compiles functions so
def test_a_compiled_network_has_one_graph():
    net = nn.Sequential(nn.Linear(5, 40), Compiled(), nn.Dropout(0.0), nn.Linear(40, 3))
    x, y = torch.randn(16, 5), torch.arange(16) % 3
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()  # of tests before
    with Watch() as watch:
        compiled = torch.compile(net, fullgraph=True, backend="eager")
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        for _ in range(5):
            step(compiled, optimizer, x, y)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert watch.seen.steps == 5
    assert any("torch.compile" in text for text in record_of(watch.seen)["unseen"])


def test_function_modes_of_the_script_see_no_observer():
    class Names(torch.overrides.TorchFunctionMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_function__(self, function, types, arguments=(), options=None):
            self.names.append(getattr(function, "__name__", ""))
            return function(*arguments, **(options or {}))

    seen = []
    for watched in (False, True):
        net, *rest = made()
        with Watch() if watched else io.StringIO(), Names() as mode:
            step(net, *rest)
        seen.append(mode.names)
    assert seen[0] == seen[1]


def test_no_observing_function_runs_inside_another():
    guard = Guard()
    seen = []
    with guard.unseen():
        assert not guard.is_open()
        assert not torch.is_grad_enabled()
    guard.observe("outer", lambda: seen.append(guard.grads))
    assert seen == [True]
    assert guard.is_open()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("surrogate", "width"),
    [
        (lambda x: np.maximum(0, 1 - np.abs(x)), 1.0),  # triangle
        (lambda x: 1 / (1 + (np.pi * x) ** 2), 1.0),  # arc tangent
        (lambda x: 1 / (1 + 5 * np.abs(x)) ** 2, 0.4),  # fast sigmoid
        (lambda x: np.where(np.abs(x) < 5, 0.1, 0.0), 10.0),  # a rectangle wider than the potentials
    ],
)
def test_widths_of_surrogates_from_potentials(surrogate, width):
    """Against the integrals by hand: area over peak of the whole function."""
    x = np.random.default_rng(0).normal(-0.5, 0.8, 5000)
    assert equivalent_width(*heights_by_distance(x, surrogate(x)), 0.1) == pytest.approx(width, rel=0.05)


def test_thresholds_are_round_numbers():
    assert roundest(-0.01, 0.02) == 0
    assert roundest(0.97, 1.04) == 1
    assert roundest(0.4961, 0.5017) == 0.5
    assert roundest(1.2338, 1.2346) == 1.234


def test_an_error_from_a_handler_of_signals_is_the_scripts():
    class TooLong(Exception):
        pass

    def stop(number, frame):
        raise TooLong

    former = signal.signal(signal.SIGINT, stop)
    try:
        guard = Guard()
        with pytest.raises(TooLong):
            guard.observe("steps", signal.raise_signal, signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, former)
    assert guard.failed == {}


@pytest.mark.parametrize("fails", [lambda net, x: net(x.T), lambda net, x: F.cross_entropy(net(x), torch.arange(9))])
def test_tracebacks_have_no_frames_of_lsg(fails):
    net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    with Watch(), pytest.raises((RuntimeError, ValueError)) as caught:
        fails(net, torch.rand(6, 5))
    files = [entry.frame.code.path for entry in caught.traceback]
    assert not [file for file in files if "lsgcli" in str(file)]
