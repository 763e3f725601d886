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


# %% sparse-inputs: multiplies sparse COO spikes by dense weights, with gradients of both
net = Net()
weight = nn.Parameter(0.3 * torch.randn(12, 16))
optimizer = torch.optim.SGD([weight, *net.out.parameters()], lr=0.3)
spikes = (inputs > 1.2).float().to_sparse()
print(spikes._nnz(), spikes.is_coalesced(), spikes.layout)
for step in range(5):
    currents = torch.sparse.mm(spikes, weight)
    outputs = net.out(net.neurons(currents.expand(4, -1, -1))).mean(0)
    loss = F.cross_entropy(outputs, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), weight.grad.layout, weight.grad.norm().item().hex())


# %% sparse-connections: fixed random connections, whose weights are a CSR matrix of a parameter
class Sparse(nn.Module):
    def __init__(self, inputs, outputs, share):
        super().__init__()
        kept = torch.rand(outputs, inputs) < share
        pattern = kept.float().to_sparse_csr()
        self.register_buffer("rows", pattern.crow_indices())
        self.register_buffer("columns", pattern.col_indices())
        self.values = nn.Parameter(torch.randn(pattern.values().shape))
        self.shape = (outputs, inputs)

    def forward(self, x):
        weight = torch.sparse_csr_tensor(self.rows, self.columns, self.values, self.shape)
        return (weight @ x.T).T


import warnings

warnings.filterwarnings("ignore", ".*parse")
net = Net()
net.hidden = Sparse(12, 16, 0.4)
show(train(net, 5))
print(net.hidden.values.shape, net.hidden.values.grad.abs().sum().item().hex())


# %% sparse-embeddings: words into spikes by an embedding with sparse gradients and SparseAdam
class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 16, sparse=True)
        self.neurons = LIF()
        self.out = nn.Linear(16, 3)

    def forward(self, sentences):
        currents = self.words(sentences).transpose(0, 1)
        return self.out(self.neurons(2 * currents)).mean(0)


net = Reader()
sentences = torch.randint(50, (48, 6))
sparse = torch.optim.SparseAdam(net.words.parameters(), lr=0.05)
dense = torch.optim.Adam([*net.out.parameters()], lr=0.02)
for step in range(5):
    loss = F.cross_entropy(net(sentences), labels)
    sparse.zero_grad()
    dense.zero_grad()
    loss.backward()
    gradient = net.words.weight.grad
    sparse.step()
    dense.step()
    print(loss.item().hex(), gradient.is_sparse, gradient._nnz(), gradient.coalesce()._nnz())


# %% embedding-bags: bags of words with sparse gradients and SGD, and a hybrid sparse tensor
import warnings

warnings.filterwarnings("ignore", "Sparse invariant checks")
bag = nn.EmbeddingBag(30, 3, mode="sum", sparse=True)
words = torch.randint(30, (100,))
starts = torch.arange(0, 96, 2)
optimizer = torch.optim.SGD(bag.parameters(), lr=0.1)
for step in range(5):
    loss = F.cross_entropy(bag(words, starts), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), bag.weight.grad._nnz(), bag.weight.grad.shape)
hybrid = torch.sparse_coo_tensor([[0, 2, 2]], torch.rand(3, 4), (5, 4), requires_grad=True)
total = torch.sparse.sum(hybrid.coalesce() * 2)
total.backward()
print(total.item(), hybrid.grad.to_dense().sum().item(), hybrid.sparse_dim(), hybrid.dense_dim())


# %% jagged-sequences: recordings of different lengths as a nested tensor of jagged layout
import warnings

warnings.filterwarnings("ignore")
lengths = [3, 7, 2, 5]
sequences = [torch.rand(length, 12) for length in lengths]
targets = torch.tensor([0, 1, 2, 1])
hidden, out = nn.Linear(12, 16), nn.Linear(16, 3)
optimizer = torch.optim.Adam([*hidden.parameters(), *out.parameters()], lr=0.02)
for step in range(5):
    nested = torch.nested.nested_tensor(sequences, layout=torch.jagged)
    activity = F.silu(hidden(nested))
    pooled = torch.stack([sequence.mean(0) for sequence in activity.unbind()])
    loss = F.cross_entropy(out(pooled), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), nested.is_nested, nested.offsets().tolist(), activity.values().shape)


# %% nested-padded: nested tensors of strided layout, filled up for the spiking neurons
import warnings

warnings.filterwarnings("ignore")
sequences = [torch.rand(length, 12) * 2 for length in (4, 6, 3)]
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for step in range(4):
    nested = torch.nested.as_nested_tensor(sequences)
    currents = net.hidden(nested)
    padded = torch.nested.to_padded_tensor(currents, 0.0)
    outputs = net.out(net.neurons(padded.transpose(0, 1))).mean(0)
    loss = F.cross_entropy(outputs, torch.tensor([2, 0, 1]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), nested.size(0), nested.numel(), padded.shape)


# %% masked-values: masked tensors for missing sensors, whose mean ignores them
import warnings

from torch.masked import as_masked_tensor

warnings.filterwarnings("ignore")
weight = torch.randn(12, requires_grad=True)
present = inputs > 0.5
for step in range(4):
    products = as_masked_tensor(inputs * weight, present)
    mean = products.mean(1)
    loss = F.mse_loss(mean.to_tensor(0.0), labels.float())
    (gradient,) = torch.autograd.grad(loss, weight)
    with torch.no_grad():
        weight -= 0.5 * gradient.to_tensor(0.0)
    print(loss.item().hex(), type(gradient).__name__, mean.get_mask().sum().item())


# %% marked-tensors: attributes of the script's own on parameters, activations and gradients
net = Net()
for name, parameter in net.named_parameters():
    parameter.scale = 0.1 if "bias" in name else 1.0
    parameter.label = name
net.hidden.weight.sparse = True


class Marking(LIF):
    def forward(self, currents):
        spikes = super().forward(currents)
        spikes.kind = "spikes"
        return spikes


net.neurons = Marking()
for step in range(4):
    spikes = net.neurons(net.hidden(inputs).expand(4, -1, -1))
    loss = F.cross_entropy(net.out(spikes).mean(0), labels)
    net.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.grad.source = parameter.label
            parameter -= 0.3 * parameter.scale * parameter.grad
    print(loss.item().hex(), spikes.kind, [vars(parameter) for parameter in net.parameters()])
    print([vars(parameter.grad) for parameter in net.parameters()], vars(loss), vars(inputs))


# %% logging-tensor: inputs of a tensor subclass that lists the functions it meets in the network
seen = []


class Logged(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        seen.append(getattr(function, "__name__", str(function)))
        return super().__torch_function__(function, types, args, kwargs or {})


inputs = inputs.as_subclass(Logged)
net = Net()
show([float(loss) for loss in train(net, 3)])
print(len(seen), seen[: len(seen) // 3])
outputs = net(inputs)
print(type(outputs).__name__, type(outputs.detach().numpy()).__name__, len(seen))


# %% wrapper-subclass: weights in a wrapper whose __torch_dispatch__ counts the operations
from collections import Counter

import torch.utils._pytree as pytree

counts = Counter()


class Wrapped(torch.Tensor):
    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    def __repr__(self):
        return f"Wrapped({tuple(self.shape)})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        counts[str(function)] += 1
        args = pytree.tree_map_only(Wrapped, lambda wrapped: wrapped.inner, args)
        results = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.detach.default:
            return Wrapped(results)
        return results


net = Net()
plain = net.hidden.weight.detach().clone()
net.hidden.weight = nn.Parameter(Wrapped(plain))
print(net.hidden.weight, type(net.hidden.weight.data).__name__)
optimizer = torch.optim.SGD(net.out.parameters(), lr=0.2)
for step in range(4):
    loss = F.cross_entropy(net(inputs), labels)
    loss.backward()
    plain.sub_(0.2 * net.hidden.weight.grad)
    optimizer.step()
    net.zero_grad()
    print(loss.item().hex())
print(sorted(counts.items()))


# %% units: membrane equation in a tensor subclass with physical units
class Quantity(torch.Tensor):
    @staticmethod
    def of(values, unit):
        quantity = torch.as_tensor(values).as_subclass(Quantity)
        quantity.unit = unit
        return quantity

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        result = super().__torch_function__(function, types, args, kwargs or {})
        if not isinstance(result, Quantity):
            return result
        tensors = [argument for argument in args if isinstance(argument, torch.Tensor)]
        units = [getattr(tensor, "unit", "") for tensor in tensors]
        if function in (torch.Tensor.add, torch.Tensor.sub) and len(set(units)) > 1:
            raise TypeError(f"{units[0]} and {units[1]} do not add")
        products = {("MOhm", "nA"): "mV", ("nA", "MOhm"): "mV", ("mV", ""): "mV", ("", "mV"): "mV"}
        result.unit = products.get(tuple(units), units[0] if units else "")
        return result


weight = torch.randn(12, 3, requires_grad=True)
resistance = Quantity.of(torch.full((3,), 2.0), "MOhm")
optimizer = torch.optim.SGD([weight], lr=0.1)
for step in range(5):
    current = Quantity.of(inputs @ weight, "nA")
    voltage = current * resistance
    loss = F.cross_entropy(voltage.as_subclass(torch.Tensor), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), voltage.unit, current.unit)
try:
    voltage + current
except TypeError as error:
    print(error)


# %% parameter-subclass: parameters of a subclass with bounds, clamped after each step
class Bounded(nn.Parameter):
    def __new__(cls, data, low, high):
        parameter = super().__new__(cls, data)
        parameter.low = low
        parameter.high = high
        return parameter


class Decays(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.decay = Bounded(torch.rand(size), 0.1, 0.9)

    def forward(self, currents):
        potential = torch.zeros_like(currents[0])
        spikes = []
        for current in currents:
            potential = self.decay * potential + current
            spikes.append(Spike.apply(potential - 1))
            potential = potential * (1 - spikes[-1])
        return torch.stack(spikes)


net = Net()
net.neurons = Decays(16)
optimizer = torch.optim.SGD(net.parameters(), lr=2.0)
for step in range(6):
    show(train(net, 1, optimizer))
    with torch.no_grad():
        for parameter in net.parameters():
            if isinstance(parameter, Bounded):
                parameter.clamp_(parameter.low, parameter.high)
    decay = net.neurons.decay
    print(type(decay).__name__, decay.min().item(), decay.max().item(), vars(decay))


# %% uninitialised-parameters: a lazy layer of the script's own, beside a lazy layer of torch
from torch.nn.parameter import UninitializedParameter, is_lazy


class LazyScale(nn.modules.lazy.LazyModuleMixin, nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = UninitializedParameter()

    def initialize_parameters(self, x):
        if self.has_uninitialized_params():
            self.scale.materialize((x.shape[-1],))
            nn.init.normal_(self.scale, 1.0, 0.1)

    def forward(self, x):
        return self.scale * x


net = Net()
net.hidden = nn.Sequential(LazyScale(), nn.LazyLinear(16))
print([is_lazy(parameter) for parameter in net.parameters()], net.hidden)
net(inputs)
print([is_lazy(parameter) for parameter in net.parameters()], net.hidden)
show(train(net, 5))


# %% meta-device: builds on the meta device, runs there for the shapes, and fills weights on the CPU
with torch.device("meta"):
    net = Net()
    shapes = net(torch.empty(7, 12))
print(shapes.device, shapes.shape, net.hidden.weight.is_meta)
loss = F.cross_entropy(shapes, torch.zeros(7, dtype=torch.long, device="meta"))
loss.backward()
print(loss, net.hidden.weight.grad.shape, net.hidden.weight.grad.device)
net.zero_grad()
net.to_empty(device="cpu")
for module in net.modules():
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
show(train(net, 4))


# %% fake-tensors: finds shapes of a training step with fake tensors, then trains for real
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

with FakeTensorMode() as mode:
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    for _ in range(2):
        outputs = net(torch.empty(32, 12))
        loss = F.cross_entropy(outputs, torch.empty(32, dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(type(loss).__name__, loss.device, outputs.shape, net.out.weight.grad.shape)
    print(isinstance(net.hidden.weight.data, FakeTensor), torch.rand(3).sum().shape)
real = Net()
with FakeTensorMode(allow_non_fake_inputs=True):
    print(type(real(torch.empty(5, 12))).__name__)
show(train(real, 4))


# %% memory-mapped: inputs and weights in memory-mapped files that change as it learns
import hashlib
from pathlib import Path

import numpy as np

inputs.numpy().tofile("inputs.bin")
mapped = torch.from_file("inputs.bin", size=48 * 12).reshape(48, 12)
array = np.memmap("weights.bin", dtype=np.float32, mode="w+", shape=(16, 12))
array[:] = np.linspace(-0.4, 0.5, 192).reshape(16, 12)
net = Net()
net.hidden.weight = nn.Parameter(torch.from_numpy(array))
inputs = mapped
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for step in range(3):
    show(train(net, 1, optimizer))
    array.flush()
    print(hashlib.sha256(Path("weights.bin").read_bytes()).hexdigest())
torch.save(net.state_dict(), "net.pt")
loaded = torch.load("net.pt", mmap=True)
print(
    loaded["hidden.weight"].untyped_storage().filename is not None,
    mapped.untyped_storage().nbytes(),
)
net.load_state_dict(loaded)
show(train(net, 2))


# %% function-mode-counts: counts functions of torch by name with a function mode around each step
from collections import Counter

from torch.overrides import TorchFunctionMode, resolve_name


class Count(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.counts[resolve_name(function) or getattr(function, "__name__", "?")] += 1
        return function(*args, **(kwargs or {}))


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for step in range(3):
    with Count() as counting:
        show(train(net, 1, optimizer))
    print(sorted(counting.counts.items()))


# %% dispatch-mode-log: lists all operations that forward pass, backward pass and step dispatch
from torch.utils._python_dispatch import TorchDispatchMode


class List(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(3):
    with List() as forward:
        loss = F.cross_entropy(net(inputs), labels)
    with List() as backward:
        loss.backward()
    with List() as stepping:
        optimizer.step()
        optimizer.zero_grad()
    print(loss.item().hex(), forward.names, backward.names, stepping.names, sep="\n")


# %% no-waiting-mode: a dispatch mode that forbids to read values while the network trains
from torch.utils._python_dispatch import TorchDispatchMode


class NoReading(TorchDispatchMode):
    forbidden = {
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.equal.default,
        torch.ops.aten.nonzero.default,
    }

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in self.forbidden:
            raise RuntimeError(f"{function} waits for the device")
        return function(*args, **(kwargs or {}))


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
losses = []
with NoReading():
    for step in range(4):
        loss = F.cross_entropy(net(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    try:
        loss.item()
    except RuntimeError as error:
        print(error)
show(torch.stack(losses).tolist())


# %% mode-that-changes: a function mode adds noise to linear layers and hardens every softmax
from torch.overrides import TorchFunctionMode


class Disturb(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is F.linear:
            return result + 0.05 * torch.randn_like(result)
        if function in (torch.softmax, torch.Tensor.softmax):
            return result.pow(2) / result.pow(2).sum(-1, keepdim=True)
        return result


net = Net()
with Disturb():
    show(train(net, 4))
    print(net(inputs).softmax(-1).max(-1).values.mean().item().hex())
print(digest_random())
print(net(inputs).softmax(-1).max(-1).values.mean().item().hex())


# %% flop-counter: counts the floating-point operations of training steps by module
from torch.utils.flop_counter import FlopCounterMode


def count_additions(first, *others, out_shape=None, **options):
    return first.numel()


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(3):
    with FlopCounterMode(display=False) as counter:
        show(train(net, 1, optimizer))
    total = counter.get_total_flops()
    by_module = counter.get_flop_counts()
    print(total, sorted((name, sum(counts.values())) for name, counts in by_module.items()))
formulas = {torch.ops.aten.add: count_additions}
with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
    net.neurons(inputs.expand(4, -1, -1))
print(counter.get_total_flops())


# %% device-contexts: sets the default device, and builds tensors under a device as a context
torch.set_default_device("cpu")
print(torch.get_default_device(), torch.rand(2).device)
with torch.device("meta"):
    print(torch.ones(2).device, torch.get_default_device(), torch.tensor(3.0).device)
    with torch.device("cpu"):
        net = Net()
        show(train(net, 3))
    print(torch.arange(3), nn.Linear(2, 3).weight.device)
torch.set_default_device(None)
show(train(net, 2))
print(torch.get_default_device(), torch.randperm(5).tolist())


# %% default-dtype: float64 as the default type of new tensors, with Python numbers in between
torch.set_default_dtype(torch.float64)
inputs = inputs.double()
net = Net()
print(net.out.weight.dtype, torch.tensor(0.1).dtype, torch.tensor(1j).dtype)
show(train(net, 5))
spikes = net.neurons(net.hidden(inputs).expand(4, -1, -1))
print(spikes.dtype, spikes.mean().item().hex())


# %% diagonal-matrix: an object that is no tensor, in functions of torch by __torch_function__
class Diagonal:
    handled = {}

    def __init__(self, values):
        self.values = values

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function not in cls.handled:
            return NotImplemented
        return cls.handled[function](*args, **(kwargs or {}))


def implements(function):
    def register(own):
        Diagonal.handled[function] = own
        return own

    return register


@implements(torch.matmul)
def multiply(x, diagonal):
    return x * diagonal.values


@implements(torch.trace)
def trace(diagonal):
    return diagonal.values.sum()


@implements(F.mse_loss)
def distance(diagonal, target, **options):
    return (diagonal.values - target).pow(2).mean()


gain = nn.Parameter(torch.ones(12))
net = Net()
optimizer = torch.optim.SGD([gain, *net.parameters()], lr=0.1)
for step in range(5):
    matrix = Diagonal(gain)
    outputs = net(torch.matmul(inputs, matrix))
    loss = F.cross_entropy(outputs, labels) + F.mse_loss(matrix, torch.tensor(1.5))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), torch.trace(matrix).item().hex())
try:
    torch.exp(matrix)
except TypeError as error:
    print(type(error).__name__)


# %% freed-storage: a hook frees the memory of a layer's input after its use, to save memory
net = nn.ModuleDict({"hidden": nn.Linear(12, 16), "out": nn.Linear(16, 3)})


def free_input(module, given, result):
    given[0].untyped_storage().resize_(0)


net["hidden"].register_forward_hook(free_input)
optimizer = torch.optim.SGD(net["out"].parameters(), lr=0.5)
for step in range(5):
    batch = inputs.clone()
    with torch.no_grad():
        hidden = net["hidden"](batch).relu()
    loss = F.cross_entropy(net["out"](hidden), labels)
    optimizer.zero_grad()
    loss.backward()
    hidden.untyped_storage().resize_(0)
    optimizer.step()
    print(loss.item().hex(), batch.untyped_storage().nbytes(), hidden.shape)
with torch.no_grad():
    net["out"].weight.untyped_storage().resize_(0)
    print(net["out"].weight.shape, net["out"].weight.untyped_storage().size())


# %% storages: tensors that share a storage, are set onto another, strided, expanded and flipped
net = Net()
flat = torch.cat([parameter.detach().flatten() for parameter in net.parameters()])
gradients = torch.zeros_like(flat)
offset = 0
for parameter in net.parameters():
    view = flat[offset : offset + parameter.numel()].view_as(parameter)
    parameter.data = view
    parameter.grad = gradients[offset : offset + parameter.numel()].view_as(parameter)
    offset += parameter.numel()
for step in range(5):
    rows = torch.as_strided(inputs, (40, 12), (12, 1), 12 * step)
    loss = F.cross_entropy(net(rows.flip(1).flip(1)), torch.as_strided(labels, (40,), (1,), step))
    gradients.zero_()
    loss.backward()
    flat.sub_(0.2 * gradients)
    print(loss.item().hex(), gradients.norm().item().hex(), net.out.weight.storage_offset())
print(
    net.out.weight.untyped_storage().data_ptr() == flat.untyped_storage().data_ptr(),
    flat.untyped_storage().nbytes(),
)
other = torch.empty(0).set_(flat.untyped_storage(), 2, (3, 2), (2, 1))
print(other.shape, other.is_contiguous(), inputs[:1].expand(4, 12).stride())


# %% own-operator: the surrogate as an operator of torch.library with fake and backward pass
@torch.library.custom_op("watched::fire", mutates_args=())
def fire(potential: torch.Tensor) -> torch.Tensor:
    return (potential > 0).float()


@fire.register_fake
def _(potential):
    return torch.empty_like(potential)


def keep(ctx, inputs, output):
    ctx.save_for_backward(inputs[0])


def differentiate(ctx, gradient):
    (potential,) = ctx.saved_tensors
    return gradient * (potential.abs() < 0.5)


fire.register_autograd(differentiate, setup_context=keep)


class Own(LIF):
    def forward(self, currents):
        potential = torch.zeros_like(currents[0])
        spikes = []
        for current in currents:
            potential = self.decay * potential + current
            spikes.append(torch.ops.watched.fire(potential - 1))
            potential = potential - spikes[-1]
        return torch.stack(spikes)


net = Net()
net.neurons = Own()
show(train(net, 5))
print(fire, torch.ops.watched.fire.default, fire(torch.tensor([-1.0, 1.0])).tolist())


# %% switched-off-subclasses: computes with a subclass switched off, and asks what is overridden
from torch.overrides import get_testing_overrides, has_torch_function, is_tensor_like


class Marked(torch.Tensor):
    calls = 0

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        Marked.calls += 1
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **(kwargs or {}))
        return result


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
marked = inputs.as_subclass(Marked)
for step in range(4):
    outputs = net(marked)
    loss = F.cross_entropy(outputs, labels.as_subclass(Marked))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), Marked.calls, type(outputs).__name__, has_torch_function([marked]))
print(is_tensor_like(marked), torch.nn.functional.linear in get_testing_overrides())


# %% strict-numbers: outputs are a subclass that refuses bool(), len(), numpy() and printing
class Opaque(torch.Tensor):
    def __bool__(self):
        raise TypeError("no truth value")

    def __len__(self):
        raise TypeError("no length")

    def __repr__(self):
        raise TypeError("no representation")

    def numpy(self):
        raise TypeError("no array")

    def item(self):
        raise TypeError("no number")

    def tolist(self):
        raise TypeError("no list")

    def __iter__(self):
        raise TypeError("no elements")


class Closed(Net):
    def forward(self, x):
        return super().forward(x).as_subclass(Opaque)


net = Closed()
optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
for step in range(4):
    outputs = net(inputs)
    loss = F.cross_entropy(outputs, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(
        type(outputs).__name__,
        type(loss).__name__,
        float(loss.detach().as_subclass(torch.Tensor)).hex(),
    )
