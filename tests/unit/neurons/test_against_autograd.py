"""Every backend against plain autograd of the same equations: memory layouts, reuse of memory, types."""

import pytest
import torch

from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF, initial_state, step
from tests.unit.neurons.helpers import AVAILABLE, BACKENDS, SURROGATES, Run, close, normal, parameters, run_backend, same

# name -> (shape of a leaf, how the current is made of it); each is a differentiable view, or the leaf itself.
LAYOUTS = {
    "contiguous": ((5, 2, 3, 4, 4), lambda x: x),
    "transposed": ((4, 3, 2, 5), lambda x: x.permute(3, 2, 1, 0)),
    "every second": ((5, 2, 6, 4), lambda x: x[:, :, ::2, 1:]),
    "every second step": ((10, 2, 3), lambda x: x[::2]),
    "channels last": ((10, 4, 4, 3), lambda x: x.permute(0, 3, 1, 2).unflatten(0, (5, 2))),
    "static": ((2, 3, 4, 4), lambda x: x.expand(5, *x.shape)),
    "static channels last": ((2, 4, 4, 3), lambda x: x.permute(0, 3, 1, 2).expand(5, 2, 3, 4, 4)),
    "same in all channels": ((5, 2, 1, 4, 4), lambda x: x.expand(5, 2, 3, 4, 4)),
    "one step": ((1, 2, 3), lambda x: x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_layouts(backend, layout):
    """Spikes and gradients do not depend on how the current lies in memory, which is left as it was; nor on leave to use this memory."""
    shape, view = LAYOUTS[layout]
    leaf = normal(*shape, seed=1, mean=0.2)
    before, p = leaf.clone(), parameters(0.6, 1.2)
    grad = normal(*view(leaf).shape, seed=2)
    expected = run_backend("autograd", leaf, grad, p, shape=view)
    assert expected.spikes.any()
    assert same(run_backend(backend, leaf, grad, p, shape=view), expected)
    assert torch.equal(leaf, before)
    # Times 1: a tensor that nobody reads again, as the permission asks for.
    assert same(run_backend(backend, leaf, grad, p, shape=lambda x: view(x * 1), overwrite=True), expected)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_decay_and_width_that_broadcast(surrogate):
    """beta per channel and per neuron, alpha per timestep, per channel and per neuron and timestep."""
    current, grad = normal(4, 2, 3, 2, 2, seed=1, mean=0.2), normal(4, 2, 3, 2, 2, seed=2)
    betas = [(), (1,), (3, 1, 1), (3, 2, 2), (2, 1, 1, 1)]
    alphas = [(), (3, 1, 1), (4, 1, 1, 1, 1), (4, 1, 3, 1, 1), (4, 2, 3, 2, 2), (1, 1, 1, 1)]
    for beta_shape in betas:
        for alpha_shape in alphas:
            beta, alpha = normal(*beta_shape, seed=3).sigmoid(), normal(*alpha_shape, seed=4).exp()
            p = parameters(beta, alpha, surrogate=surrogate)
            expected, found = (run_backend(name, current, grad, p) for name in BACKENDS)
            assert found.d_beta.shape == beta_shape
            assert same(found, expected), (beta_shape, alpha_shape)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_sequence_is_the_repeated_step(backend, surrogate):
    """The pure step, repeated by hand from the initial state, gives the sequence's spikes and gradients."""
    leaf, grad, p = normal(5, 2, 3, seed=1, mean=0.2), normal(5, 2, 3, seed=2), parameters(0.7, 0.9, surrogate=surrogate)
    current, state, spikes = leaf.clone().requires_grad_(), initial_state(leaf[0]), []
    for t in range(5):
        before = (state.u.clone(), state.o.clone())
        o, after = step(current[t], state, p)
        assert torch.equal(state.u, before[0])
        assert torch.equal(state.o, before[1])
        assert after.o is o
        spikes.append(o)
        state = after
    stacked = torch.stack(spikes)
    expected = Run(stacked.detach(), *torch.autograd.grad(stacked, (current, p.beta), grad))
    assert same(run_backend(backend, leaf, grad, p), expected)


@pytest.mark.parametrize("backend", AVAILABLE)
def test_bf16_current_keeps_a_float32_membrane(backend):
    """bf16 currents give bf16 spikes and gradients, with the arithmetic of float32 in between."""
    current = normal(10, 4, 50, seed=1, mean=0.08, std=0.1).to(torch.bfloat16)
    grad = normal(10, 4, 50, seed=2).to(torch.bfloat16)
    p = parameters(0.9, 1.0, dtype=torch.float32)
    low = run_backend(backend, current, grad, p)
    wide = run_backend(backend, current.float(), grad.float(), p)
    assert (low.spikes.dtype, low.d_current.dtype, low.d_beta.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    assert torch.equal(low.spikes.float(), wide.spikes)
    assert torch.equal(low.d_current, wide.d_current.to(torch.bfloat16))
    assert close(low.d_beta, wide.d_beta, 1e-5)

    u, o, rounded = torch.zeros(4, 50), torch.zeros(4, 50), []
    for t in range(10):
        u = (0.9 * u * (1 - o) + current[t].float()).to(torch.bfloat16).float()
        o = (u >= 0.5).float()
        rounded.append(o)
    assert not torch.equal(torch.stack(rounded), wide.spikes)  # a bf16 membrane would have been seen


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_gradient_where_none_is_asked_for(backend):
    """Under no_grad, and for a current without gradient, the spikes are the same; beta still gets its gradient."""
    current, layer = normal(4, 3, seed=1, mean=0.3), LIF(method="lsg", backend=backend).double()
    with torch.no_grad():
        quiet = layer(current)
    spikes = layer(current)
    spikes.sum().backward()
    assert not quiet.requires_grad
    assert torch.equal(quiet, spikes.detach())
    assert layer.b.grad != 0


@pytest.mark.parametrize("shape", [(), (0,), (0, 2, 3, 4, 4)])
@pytest.mark.parametrize("backend", AVAILABLE)
def test_no_timestep_is_an_error(backend, shape):
    """A current without a time axis, or of no timestep, is refused with its shape."""
    with pytest.raises(ConfigError, match="at least one timestep"):
        LIF(backend=backend)(torch.zeros(shape))
