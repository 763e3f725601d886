# ruff: noqa
# Each script is what stands above the first line "# %% name: what it does", and what follows one.
import hashlib

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, potential):
        ctx.save_for_backward(potential)
        return (potential > 0).to(potential.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (potential,) = ctx.saved_tensors
        return gradient / (1 + 5 * potential.abs()) ** 2


class LIF(nn.Module):
    def __init__(self, decay=0.8):
        super().__init__()
        self.decay = decay

    def forward(self, currents):  # (T, B, N)
        potential = torch.zeros_like(currents[0])
        spikes = []
        for current in currents:
            potential = self.decay * potential + current
            spike = Spike.apply(potential - 1)
            potential = potential - spike
            spikes.append(spike)
        return torch.stack(spikes)


class Net(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.hidden = nn.Linear(12, hidden)
        self.neurons = LIF()
        self.out = nn.Linear(hidden, 3)

    def forward(self, x):
        currents = self.hidden(x).expand(4, -1, -1)
        return self.out(self.neurons(currents)).mean(0)


inputs = torch.rand(48, 12) * 2
labels = inputs[:, :3].argmax(1)


def train(net, steps=5, optimizer=None):
    if optimizer is None:
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(net(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def show(losses):
    print(*[loss.hex() for loss in losses])


def digest_random():
    return hashlib.md5(torch.get_rng_state().numpy().tobytes()).hexdigest()


# %% old-weight-norm: weight normalisation by hooks (deprecated), in a spiking network
import warnings

warnings.simplefilter("ignore", FutureWarning)
net = Net()
nn.utils.weight_norm(net.hidden)
nn.utils.weight_norm(net.out, dim=None)
show(train(net, 4))
print(sorted(net.state_dict()), type(net.hidden.weight).__name__, net.hidden.weight.is_leaf)
nn.utils.remove_weight_norm(net.hidden)
show(train(net, 2))
print(net.hidden.weight.norm(dim=1).sum().item().hex(), len(net.hidden._forward_pre_hooks))


# %% weight-norm: weight normalisation as a parametrization, printed and saved
from torch.nn.utils.parametrizations import weight_norm

net = Net()
weight_norm(net.hidden)
weight_norm(net.out, name="weight", dim=1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for step in range(4):
    show(train(net, 1, optimizer))
    lengths = net.hidden.parametrizations.weight.original0
    print(lengths.norm().item().hex(), lengths.grad.norm().item().hex())
print(sorted(net.state_dict()), type(net.hidden).__name__)
torch.save(net.state_dict(), "net.pt")
other = Net()
weight_norm(other.hidden)
weight_norm(other.out, dim=1)
other.load_state_dict(torch.load("net.pt"))
show(train(other, 2))


# %% old-spectral-norm: spectral normalisation by hooks, whose vectors change with each forward pass
import warnings

warnings.simplefilter("ignore", FutureWarning)
net = Net()
nn.utils.spectral_norm(net.hidden, n_power_iterations=2)
nn.utils.spectral_norm(net.out)
for step in range(4):
    show(train(net, 1))
    print(net.hidden.weight_u.sum().item().hex(), net.out.weight_v.sum().item().hex())
net.eval()
show([F.cross_entropy(net(inputs), labels).item()])
print(net.hidden.weight_u.sum().item().hex(), sorted(net.state_dict()))


# %% spectral-norm: spectral normalisation as a parametrization, iterated when weights are read
from torch.nn.utils.parametrizations import spectral_norm

net = Net()
spectral_norm(net.hidden)
spectral_norm(net.out, n_power_iterations=3)
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for step in range(5):
    show(train(net, 1, optimizer))
    buffers = net.hidden.parametrizations.weight[0]
    print(buffers._u.sum().item().hex(), buffers._v.sum().item().hex())
net.eval()
print(torch.linalg.matrix_norm(net.hidden.weight, 2).item().hex(), net.training)
show([F.cross_entropy(net(inputs), labels).item()])


# %% orthogonal-recurrence: a recurrent spiking layer whose weights are orthogonal
from torch.nn.utils.parametrizations import orthogonal


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inward = nn.Linear(12, 16)
        self.recurrent = orthogonal(nn.Linear(16, 16, bias=False), orthogonal_map="cayley")
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        potential = spikes = torch.zeros(len(x), 16)
        total = 0
        for _ in range(4):
            potential = 0.8 * potential + self.inward(x) + self.recurrent(spikes)
            spikes = Spike.apply(potential - 1)
            potential = potential - spikes
            total = total + self.out(spikes)
        return total


net = Recurrent()
show(train(net, 5))
weight = net.recurrent.weight.detach()
print((weight @ weight.T - torch.eye(16)).abs().max().item() < 1e-5, weight.sum().item().hex())


# %% noisy-parametrization: weights with noise that is drawn anew whenever they are read
from torch.nn.utils import parametrize


class Noise(nn.Module):
    def forward(self, weight):
        if not self.training:
            return weight
        return weight + 0.05 * torch.randn_like(weight)


net = Net()
parametrize.register_parametrization(net.hidden, "weight", Noise())
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(5):
    show(train(net, 1, optimizer))
    print(digest_random())
print(net.hidden.weight.sum().item().hex(), net.hidden.weight.sum().item().hex())
net.eval()
show([F.cross_entropy(net(inputs), labels).item()])


# %% counting-parametrization: a parametrization that counts and prints how often it is used
from torch.nn.utils import parametrize


class Positive(nn.Module):
    calls = 0

    def forward(self, weight):
        self.calls += 1
        print("weights made", self.calls)
        return F.softplus(weight)

    def right_inverse(self, weight):
        print("inverted")
        return torch.log(torch.expm1(weight.abs().clamp(min=1e-3)))


net = Net()
positive = Positive()
parametrize.register_parametrization(net.out, "weight", positive)
for step in range(3):
    show(train(net, 1))
print(net.out, positive.calls, parametrize.is_parametrized(net.out, "weight"))
net.out.weight = torch.ones(3, 16)
print(positive.calls, net.out.weight.mean().item())


# %% cached-parametrizations: weights that are computed once in a block, shared by timesteps
from torch.nn.utils import parametrize


class Symmetric(nn.Module):
    calls = 0

    def forward(self, weight):
        Symmetric.calls += 1
        return weight.triu() + weight.triu(1).T


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.core = nn.Linear(12, 12)
        parametrize.register_parametrization(self.core, "weight", Symmetric())
        self.out = nn.Linear(12, 3)

    def forward(self, x):
        potential = torch.zeros_like(x)
        for _ in range(5):
            potential = 0.7 * potential + self.core(x)
            x = Spike.apply(potential - 0.5)
        return self.out(x)


net = Shared()
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for step in range(3):
    before = Symmetric.calls
    with parametrize.cached():
        show(train(net, 1, optimizer))
    print(Symmetric.calls - before)
show(train(net, 1, optimizer))
print(Symmetric.calls, torch.equal(net.core.weight, net.core.weight.T), Symmetric.calls)


# %% dales-law: excitatory and inhibitory neurons by a parametrization, removed in the end
from torch.nn.utils import parametrize


class Dale(nn.Module):
    def __init__(self, signs):
        super().__init__()
        self.register_buffer("signs", signs)

    def forward(self, weight):
        return weight.abs() * self.signs


net = Net()
signs = torch.where(torch.arange(16) < 12, 1.0, -1.0)
parametrize.register_parametrization(net.out, "weight", Dale(signs))
show(train(net, 4))
print(
    (net.out.weight.sign() * signs).min().item(),
    sorted(net.state_dict()),
    type(net.out).__mro__[1].__name__,
)
parametrize.remove_parametrizations(net.out, "weight")
print(type(net.out).__name__, type(net.out.weight).__name__)
show(train(net, 3))


# %% learned-decays: decays of neurons between 0 and 1, by a sigmoid and by a chain of two
from torch.nn.utils import parametrize


class Sigmoid(nn.Module):
    def forward(self, x):
        return torch.sigmoid(x)

    def right_inverse(self, decay):
        return torch.logit(decay)


class Clipped(nn.Module):
    def forward(self, decay):
        return decay.clamp(0.2, 0.95)

    def right_inverse(self, decay):
        return decay


class Learned(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.decay = nn.Parameter(torch.full((size,), 0.8))
        parametrize.register_parametrization(self, "decay", Sigmoid())
        parametrize.register_parametrization(self, "decay", Clipped())

    def forward(self, currents):
        return LIF(self.decay)(currents)


net = Net()
net.neurons = Learned(16)
optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
for step in range(5):
    show(train(net, 1, optimizer))
    decay = net.neurons.decay
    print(decay.min().item().hex(), decay.max().item().hex())
print(len(net.neurons.parametrizations.decay), net.neurons)


# %% unsafe-parametrization: a low-rank weight of other shapes, copied deeply with its class
import copy

from torch.nn.utils import parametrize


class LowRank(nn.Module):
    def forward(self, left, right):
        return left @ right

    def right_inverse(self, weight):
        left, scale, right = torch.linalg.svd(weight, full_matrices=False)
        return left[:, :2] * scale[:2], right[:2]


net = Net()
parametrize.register_parametrization(net.hidden, "weight", LowRank(), unsafe=True)
show(train(net, 3))
print([tuple(parameter.shape) for parameter in net.parameters()])
copied = copy.deepcopy(net)
show(train(copied, 2))
show(train(net, 2))
print(type(copied.hidden) is type(net.hidden), torch.linalg.matrix_rank(net.hidden.weight).item())
bare = Net()
parametrize.transfer_parametrizations_and_params(net.hidden, bare.hidden)
show(train(bare, 2))


# %% pruned-network: prunes by size and at random, trains with masks, and makes it permanent
from torch.nn.utils import prune

net = Net()
prune.l1_unstructured(net.hidden, "weight", amount=0.3)
prune.random_unstructured(net.out, "weight", amount=5)
show(train(net, 3))
print(
    net.hidden.weight_mask.sum().item(),
    (net.out.weight == 0).sum().item(),
    sorted(net.state_dict()),
)
prune.ln_structured(net.hidden, "weight", amount=0.25, n=2, dim=0)
show(train(net, 2))
kept = [(net.hidden, "weight"), (net.out, "weight")]
prune.global_unstructured(kept, pruning_method=prune.L1Unstructured, amount=0.2)
show(train(net, 2))
for module, name in kept:
    prune.remove(module, name)
print([(parameter == 0).sum().item() for parameter in net.parameters()], prune.is_pruned(net))
show(train(net, 2))


# %% own-pruning: a pruning method of its own that drops every second synapse, more at each epoch
from torch.nn.utils import prune


class Alternate(prune.BasePruningMethod):
    PRUNING_TYPE = "unstructured"

    def __init__(self, step):
        self.step = step
        print("made for", step)

    def compute_mask(self, weight, default_mask):
        mask = default_mask.clone()
        mask.view(-1)[:: self.step] = 0
        return mask


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in (5, 4, 3):
    Alternate.apply(net.hidden, "weight", step=step)
    print(type(net.hidden._forward_pre_hooks[next(iter(net.hidden._forward_pre_hooks))]).__name__)
    show(train(net, 2))
print((net.hidden.weight != 0).sum().item(), net.hidden.weight_orig.grad.norm().item().hex())


# %% clipped-gradients: clips gradients by norm and by value, and prints what these functions return
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
for step in range(4):
    loss = F.cross_entropy(net(inputs * 3), labels)
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(net.parameters(), 0.1, norm_type=2.0, error_if_nonfinite=True)
    total = nn.utils.get_total_norm([parameter.grad for parameter in net.parameters()])
    nn.utils.clip_grads_with_norm_(net.out.parameters(), 0.05, total)
    nn.utils.clip_grad_value_(net.hidden.parameters(), 0.01)
    optimizer.step()
    print(
        loss.item().hex(),
        norm.item().hex(),
        total.item().hex(),
        net.hidden.bias.grad.abs().max().item(),
    )


# %% weights-as-a-vector: searches along a direction with all weights as one vector
from torch.nn.utils import parameters_to_vector, vector_to_parameters

net = Net()
for step in range(4):
    loss = F.cross_entropy(net(inputs), labels)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    direction = -torch.cat([gradient.flatten() for gradient in gradients])
    start = parameters_to_vector(net.parameters()).detach().clone()
    found = []
    for length in (0.1, 0.5, 2.0, 8.0):
        vector_to_parameters(start + length * direction, net.parameters())
        with torch.no_grad():
            found.append((F.cross_entropy(net(inputs), labels).item(), length))
    vector_to_parameters(start + min(found)[1] * direction, net.parameters())
    print(loss.item().hex(), min(found)[1], start.numel())


# %% evolution: weights by random search without any gradient, from a population of vectors
from torch.nn.utils import parameters_to_vector, vector_to_parameters

torch.set_grad_enabled(False)
net = Net()
mean = parameters_to_vector(net.parameters())
for generation in range(4):
    population = mean + 0.1 * torch.randn(8, mean.numel())
    losses = []
    for weights in population:
        vector_to_parameters(weights, net.parameters())
        losses.append(F.cross_entropy(net(inputs), labels).item())
    best = torch.tensor(losses).argsort()[:3]
    mean = population[best].mean(0)
    print(min(losses).hex(), best.tolist(), mean.norm().item().hex())


# %% skipped-initialisation: layers without initial values, which are filled by the script
net = Net()
state = torch.get_rng_state()
net.hidden = nn.utils.skip_init(nn.Linear, 12, 16)
net.out = nn.utils.skip_init(nn.Linear, in_features=16, out_features=3, bias=False)
print(torch.equal(state, torch.get_rng_state()), nn.init.calculate_gain("tanh"))
with torch.no_grad():
    nn.init.kaiming_uniform_(net.hidden.weight, nonlinearity="relu")
    nn.init.zeros_(net.hidden.bias)
    nn.init.trunc_normal_(net.out.weight, std=0.1)
    nn.init.sparse_(net.out.weight.T, sparsity=0.2)
    nn.init.orthogonal_(net.out.weight)
show(train(net, 5))


# %% fused-layers: fuses normalisation into the layers before it, and trains the fused network on
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

linear, norm = nn.Linear(12, 16), nn.BatchNorm1d(16)
convolution, norms = nn.Conv1d(1, 4, 3, padding=1), nn.BatchNorm1d(4)
net = Net()
net.hidden = nn.Sequential(linear, norm)
show(train(net, 4))
norm.eval()
linear.eval()
fused = fuse_linear_bn_eval(linear, norm)
print(torch.allclose(fused(inputs), norm(linear(inputs)), atol=1e-5), type(fused).__name__)
net.hidden = fused
show(train(net, 2))
for _ in range(3):
    norms(convolution(inputs[:, None]))
fused = fuse_conv_bn_eval(convolution.eval(), norms.eval())
print(fused.weight.norm().item().hex(), fused.bias.norm().item().hex())


# %% stateless-calls: calls a network with other weights than its own, and differentiates those
import warnings

from torch.func import functional_call, stack_module_state

warnings.simplefilter("ignore", FutureWarning)
net = Net()
weights = {name: value.detach().clone().requires_grad_() for name, value in net.named_parameters()}
before = net.out.weight.clone()
for step in range(4):
    loss = F.cross_entropy(functional_call(net, weights, (inputs,)), labels)
    gradients = torch.autograd.grad(loss, weights.values())
    stepped = [value - 0.3 * gradient for value, gradient in zip(weights.values(), gradients)]
    weights = {name: value.detach().requires_grad_() for name, value in zip(weights, stepped)}
    print(loss.item().hex())
outputs = nn.utils.stateless.functional_call(net, weights, inputs)
print(torch.equal(before, net.out.weight), outputs.sum().item().hex(), len(list(net.parameters())))
show(train(net, 2))


# %% binary-weights: weights of -1 and 1 with a straight-through gradient, as a parametrization
from torch.nn.utils import parametrize


class Sign(torch.autograd.Function):
    calls = 0

    @staticmethod
    def forward(ctx, weight):
        Sign.calls += 1
        return torch.where(weight >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Binary(nn.Module):
    def forward(self, weight):
        return weight.abs().mean() * Sign.apply(weight)


net = Net()
for layer in (net.hidden, net.out):
    parametrize.register_parametrization(layer, "weight", Binary())
show(train(net, 5, torch.optim.SGD(net.parameters(), lr=0.2)))
print(Sign.calls, len(net.hidden.weight.unique()), Sign.calls)


# %% weight-as-a-property: a weight that is a property that computes, counts and draws numbers
class Hyper(nn.Module):
    reads = 0

    def __init__(self):
        super().__init__()
        self.code = nn.Parameter(torch.randn(4))
        self.maker = nn.Linear(4, 12 * 16)

    @property
    def weight(self):
        self.reads += 1
        code = self.code + 0.01 * torch.randn(4)
        return self.maker(code).view(16, 12)

    @property
    def bias(self):
        raise RuntimeError("this layer has no bias")

    def forward(self, x):
        return F.linear(x, self.weight)


net = Net()
net.hidden = Hyper()
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(5):
    show(train(net, 1, optimizer))
    print(net.hidden.reads, digest_random())


# %% weights-made-by-hooks: a pre-hook that sets the weight from two others, removed and put back
def rescale(module, given):
    module.weight = module.direction * module.gain[:, None]


net = Net()
layer = net.hidden
direction = layer.weight.detach().clone()
del layer._parameters["weight"]
layer.direction = nn.Parameter(direction)
layer.gain = nn.Parameter(torch.ones(16))
handle = layer.register_forward_pre_hook(rescale)
show(train(net, 3))
print(layer.weight.requires_grad, layer.weight.is_leaf, layer.weight.grad_fn.name())
handle.remove()
layer.weight = layer.weight.detach()
show(train(net, 2))
with layer.register_forward_pre_hook(rescale):
    show(train(net, 1))
print(len(layer._forward_pre_hooks), layer.gain.sum().item().hex())


# %% order-of-hooks: hooks before and behind others, with keywords, always called, and their order
order = []


def note(name):
    return lambda *given: order.append((name, len(given)))


net = Net()
net.register_forward_pre_hook(note("pre"))
net.register_forward_pre_hook(note("pre first"), prepend=True, with_kwargs=True)
net.register_forward_hook(note("after"))
net.register_forward_hook(note("after first"), prepend=True)
net.register_forward_hook(note("always"), always_call=True, with_kwargs=True)
net.hidden.register_forward_pre_hook(note("hidden"))
net.out.register_full_backward_pre_hook(note("back pre"))
net.out.register_full_backward_hook(note("back"))
show(train(net, 2))
print(order)
order.clear()
try:
    net(inputs[:, :3])
except RuntimeError:
    print(order)
order.clear()
net(x=inputs)
print(order)


# %% hooks-that-change: hooks that replace inputs, outputs and gradients of layers and tensors
net = Net()
net.hidden.register_forward_pre_hook(lambda module, given: (given[0] + 0.1,))
net.neurons.register_forward_hook(lambda module, given, result: result * 0.9)
net.out.register_full_backward_hook(lambda module, inward, outward: (inward[0] * 0.5,))
net.out.register_full_backward_pre_hook(lambda module, outward: (outward[0] * 2,))
for parameter in net.parameters():
    parameter.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
seen = []


def keep_gradients(module, given, result):
    result.retain_grad()
    seen.append(result)


net.neurons.register_forward_hook(keep_gradients)
show(train(net, 4, torch.optim.SGD(net.parameters(), lr=1.0)))
show([tensor.grad.norm().item() for tensor in seen])


# %% steps-in-backward: optimisers step inside the backward pass, in hooks behind accumulation
net = Net()
optimizers = {parameter: torch.optim.Adam([parameter], lr=0.02) for parameter in net.parameters()}
order = []


def step_at_once(parameter):
    optimizers[parameter].step()
    optimizers[parameter].zero_grad()
    order.append(tuple(parameter.shape))


for parameter in net.parameters():
    parameter.register_post_accumulate_grad_hook(step_at_once)
for step in range(5):
    loss = F.cross_entropy(net(inputs), labels)
    loss.backward()
    print(loss.item().hex(), [parameter.grad for parameter in net.parameters()])
print(order[:4], len(order))


# %% hooks-that-go: hooks that remove themselves, others, or add new ones while they are called
calls = []
net = Net()


def once(module, given, result):
    calls.append("once")
    handles["once"].remove()


def adding(module, given, result):
    calls.append("adding")
    if len(calls) < 8:
        module.register_forward_hook(lambda *given: calls.append("added"))


handles = {"once": net.hidden.register_forward_hook(once)}
handles["adding"] = net.out.register_forward_hook(adding)
for step in range(4):
    show(train(net, 1))
    print(calls, len(net.hidden._forward_hooks), len(net.out._forward_hooks))
handles["adding"].remove()
net.out._forward_hooks.clear()
show(train(net, 1))
print(len(calls), handles["once"].id < handles["adding"].id)


# %% global-hooks: hooks of all modules, which name what is called and change one output
from torch.nn.modules import module as modules

names = []


def name_module(module, given, result):
    names.append(type(module).__name__)
    if isinstance(module, LIF):
        return result + 0.0


handles = [
    modules.register_module_forward_hook(name_module),
    modules.register_module_forward_pre_hook(lambda module, given: names.append("<")),
    modules.register_module_full_backward_hook(lambda module, inward, outward: names.append(">")),
]
net = Net()
inputs.requires_grad_()
show(train(net, 3))
print(names)
for handle in handles:
    handle.remove()
show(train(net, 2))
print(len(names))


# %% registration-hooks: hooks called when parameters, buffers and modules are registered anywhere
from torch.nn.modules import module as modules

registered = []
handles = [
    modules.register_module_parameter_registration_hook(
        lambda module, name, parameter: registered.append((type(module).__name__, name))
    ),
    modules.register_module_buffer_registration_hook(
        lambda module, name, buffer: registered.append((type(module).__name__, name))
    ),
    modules.register_module_module_registration_hook(
        lambda module, name, child: registered.append((type(module).__name__, name))
    ),
]
net = Net()
net.register_buffer("steps", torch.zeros(()))
show(train(net, 3))
print(registered)
for handle in handles:
    handle.remove()
Net()
print(len(registered))


# %% optimiser-hooks: hooks before and behind steps of all optimisers and of one
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

calls = []
every = register_optimizer_step_pre_hook(lambda optimizer, given, named: calls.append("all pre"))
behind = register_optimizer_step_post_hook(lambda optimizer, given, named: calls.append("all post"))
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)


def centralise(optimizer, given, named):
    calls.append(len(given))
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.ndim == 2:
                parameter.grad -= parameter.grad.mean(1, keepdim=True)


optimizer.register_step_pre_hook(centralise)
optimizer.register_step_post_hook(lambda *given: calls.append("post"))
optimizer.register_state_dict_post_hook(lambda optimizer, state: calls.append("state"))
show(train(net, 3, optimizer))
optimizer.state_dict()
every.remove()
behind.remove()
show(train(net, 1, optimizer))
print(calls)


# %% stopped-forward: a hook stops a forward pass at a layer by an exception
class Enough(Exception):
    pass


def features(net, layer, x):
    kept = []

    def stop(module, given, result):
        kept.append(result)
        raise Enough

    handle = layer.register_forward_hook(stop)
    try:
        net(x)
    except Enough:
        pass
    finally:
        handle.remove()
    return kept[0]


net = Net()
reader = nn.Linear(16, 3)
optimizer = torch.optim.SGD([*net.parameters(), *reader.parameters()], lr=0.2)
for step in range(5):
    spikes = features(net, net.neurons, inputs)
    loss = F.cross_entropy(reader(spikes.mean(0)), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), spikes.shape, net.out.weight.grad)
show(train(net, 2))


# %% channels-last: converts the memory format of convolutions, and asks it at every layer
layers = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 3)]
net = nn.Sequential(*layers, nn.Flatten())
nn.utils.convert_conv2d_weight_memory_format(net, torch.channels_last)
images = inputs.view(48, 1, 3, 4).to(memory_format=torch.channels_last)
formats = []
for layer in net:
    layer.register_forward_hook(
        lambda module, given, result: formats.append(
            result.ndim == 4 and result.is_contiguous(memory_format=torch.channels_last)
        )
    )
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(4):
    loss = F.cross_entropy(net(images).view(48, 3, 2).mean(2), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), net[0].weight.grad.stride(), formats[-5:])


# %% packed-sequences: a recurrent network reads packed sequences, and its spikes are padded again
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence, unpack_sequence


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent = nn.GRU(12, 16)
        self.neurons = LIF()
        self.out = nn.Linear(16, 3)

    def forward(self, sequences):
        activity, last = self.recurrent(sequences)
        padded, lengths = pad_packed_sequence(activity)
        return self.out(self.neurons(4 * padded)).sum(0) / lengths[:, None]


net = Packed()
sequences = [inputs[first : first + length] for first, length in ((0, 5), (5, 9), (14, 2), (16, 7))]
packed = pack_sequence(sequences, enforce_sorted=False)
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for step in range(5):
    loss = F.cross_entropy(net(packed), torch.tensor([0, 1, 2, 1]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), isinstance(packed, PackedSequence), packed.batch_sizes.tolist())
print(all(torch.equal(a, b) for a, b in zip(unpack_sequence(packed), sequences)))
