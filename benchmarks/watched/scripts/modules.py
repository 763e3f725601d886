import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = (torch.rand(4, 16, 12) < 0.4).float()  # (T, B, features)
y = torch.randint(0, 3, (16,))


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad / (1 + (3 * v).abs()) ** 2


class LIF(nn.Module):
    def __init__(self, beta=0.9):
        super().__init__()
        self.beta = beta

    def forward(self, current):
        v, spikes = torch.zeros_like(current[0]), []
        for i in current:
            v = self.beta * v + 2 * i
            spikes.append(Spike.apply(v - 1))
            v = v - spikes[-1].detach()
        return torch.stack(spikes)


def build(hidden=24):
    return nn.Sequential(nn.Linear(12, hidden), LIF(), nn.Linear(hidden, 3))


def train(net, steps=3, frames=x):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
    for _ in range(steps):
        loss = F.cross_entropy(net(frames).mean(0), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item().hex())


# %% whole-module: a network is saved as a whole while it is trained, loaded, and trained on
import hashlib
import os

net = build()
train(net)
torch.save(net, "net.pt")
print(os.path.getsize("net.pt"), hashlib.sha256(open("net.pt", "rb").read()).hexdigest())
again = torch.load("net.pt", weights_only=False)
print([type(m).__name__ for m in again.modules()], sorted(vars(again[1])))
train(again)
print(torch.equal(net[0].weight, again[0].weight))
# %% weights-only: a state is saved and loaded with weights_only, and a whole module is refused there
import pickle

net = build()
train(net)
torch.save({"net": net.state_dict(), "step": 3, "rng": torch.get_rng_state()}, "state.pt")
state = torch.load("state.pt", weights_only=True)
print(state["net"].keys(), type(state["net"]).__name__, state["net"]._metadata[""], state["rng"].sum().item())
torch.save(net, "net.pt")
try:
    torch.load("net.pt", weights_only=True)
except pickle.UnpicklingError as error:
    print("refused", "torch.nn.modules.container.Sequential" in str(error))
with torch.serialization.safe_globals([nn.Sequential, nn.Linear, LIF]):
    print(sorted(g.split(".")[-1] for g in torch.serialization.get_unsafe_globals_in_checkpoint("net.pt")))
other = build()
print(other.load_state_dict(state["net"]))
train(other)
# %% deepcopy: a teacher is a deep copy of the network, made in the middle of training, with its hooks
import copy

net = build()
log = []


def record(module, inputs, output):
    log.append((type(module).__name__, round(output.mean().item(), 6)))


net[1].register_forward_hook(record)
train(net, 2)
teacher = copy.deepcopy(net).requires_grad_(False).eval()
print(len(teacher[1]._forward_hooks), list(teacher[1]._forward_hooks.values())[0] is record)
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for _ in range(3):
    with torch.no_grad():
        target = teacher(x).mean(0).softmax(1)
    loss = F.kl_div(net(x).mean(0).log_softmax(1), target, reduction="batchmean")
    (loss + F.cross_entropy(net(x).mean(0), y)).backward()
    optimizer.step()
    optimizer.zero_grad()
    print(loss.item().hex())
print(len(log), log[-1])
# %% pickle: the size of a pickled network and what is in its dictionary stay as they were before training
import pickle

net = build()
before = len(pickle.dumps(net)), {name: sorted(vars(m)) for name, m in net.named_modules()}
train(net)
net.zero_grad()
after = len(pickle.dumps(net)), {name: sorted(vars(m)) for name, m in net.named_modules()}
print(before[0], after[0], before[1] == after[1], len(before[1]["0"]))
print([len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()])
for protocol in range(2, 6):
    print(protocol, len(pickle.dumps(net, protocol)))
train(pickle.loads(pickle.dumps(net)), 1)
# %% lazy: lazy layers take their shapes from the first batch, and neurons between them
net = nn.Sequential(nn.LazyLinear(24), LIF(), nn.LazyLinear(3))
print(net, [p.__class__.__name__ for p in net.parameters()], net[0].has_uninitialized_params())
try:
    print(sum(p.numel() for p in net.parameters()))
except ValueError as error:
    print(type(error).__name__)
with torch.no_grad():
    net(x)
print(net, [tuple(p.shape) for p in net.parameters()], type(net[0]).__name__)
train(net, 5)
# %% lazy-convolution: lazy convolutions and batch normalisation, saved before they have a shape and loaded after
net = nn.Sequential(nn.LazyConv1d(6, 3), nn.LazyBatchNorm1d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
torch.save(net.state_dict(), "lazy.pt")
print({k: type(v).__name__ for k, v in net.state_dict().items()})
frames = x.permute(1, 0, 2)
hooks = [len(m._forward_pre_hooks) for m in net]
out = net(frames)
print(hooks, [len(m._forward_pre_hooks) for m in net], [type(m).__name__ for m in net])
optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
for _ in range(4):
    loss = F.cross_entropy(net(frames), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
print(torch.load("lazy.pt", weights_only=False)["0.weight"])
# %% transformer: a transformer's encoder with padding, trained, and evaluated on its fast path with nested tensors
import warnings

layer = nn.TransformerEncoderLayer(12, 2, 24, dropout=0.1, batch_first=True)
net, head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=True), nn.Linear(12, 3)
frames = x.transpose(0, 1)
padding = torch.zeros(16, 4, dtype=torch.bool)
padding[::2, 3:] = True
optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=0.01)
for _ in range(4):
    loss = F.cross_entropy(head(net(frames, src_key_padding_mask=padding).mean(1)), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
net.eval()
with torch.inference_mode(), warnings.catch_warnings(record=True) as shown:
    warnings.simplefilter("always")
    out = net(frames, src_key_padding_mask=padding)
print(tuple(out.shape), out.sum().item().hex(), out[0, 3].abs().sum().item().hex(), len(shown))
# %% fast-path: whether the encoder's layer may take its fast path, which hooks on its modules prevent
from torch.overrides import TorchFunctionMode


class Calls(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(func.__name__)
        return func(*args, **kwargs or {})


net = nn.TransformerEncoderLayer(12, 2, 24, dropout=0.0, batch_first=True).eval()
with torch.no_grad():
    for hooked in (False, True):
        handle = net.linear1.register_forward_hook(lambda *_: None) if hooked else None
        fast = torch._transformer_encoder_layer_fwd
        torch._transformer_encoder_layer_fwd = lambda *a, **k: print("fast", end=" ") or fast(*a, **k)
        print(net(x).double().sum().item().hex())
        torch._transformer_encoder_layer_fwd = fast
        if handle:
            handle.remove()
with Calls() as calls:
    nn.Linear(12, 3)(x)
print([name for name in calls.names if "linear" in name])
# %% attention: multi-head attention among the spikes of a layer, with masks and with the weights that it returns
class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.lif = nn.Linear(12, 16), LIF()
        self.attention = nn.MultiheadAttention(16, 4)
        self.out = nn.Linear(16, 3)
        self.weights = None

    def forward(self, x):
        s = self.lif(self.fc(x))
        mask = nn.Transformer.generate_square_subsequent_mask(len(x))
        out, self.weights = self.attention(s, s, s, attn_mask=mask, average_attn_weights=False)
        return self.out(out + s)


net = Attentive()
train(net, 5)
print(tuple(net.weights.shape), net.weights.sum().item().hex())
net.eval()
with torch.no_grad():
    print(net(x).sum().item().hex(), net.attention(x[..., :4].repeat(1, 1, 4), *[x.repeat(1, 1, 2)[..., :16]] * 2, need_weights=False)[1])
# %% recurrent: GRU and LSTM read packed spike trains of several lengths, and an LSTM cell goes step by step
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

gru, lstm = nn.GRU(12, 10, bidirectional=True), nn.LSTM(20, 8, num_layers=2, dropout=0.2, proj_size=5)
cell, out = nn.LSTMCell(5, 6), nn.Linear(6, 3)
parameters = [p for m in (gru, lstm, cell, out) for p in m.parameters()]
optimizer = torch.optim.Adam(parameters, lr=0.02)
lengths = torch.tensor([4, 2, 3, 1] * 4)
for _ in range(4):
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    h, (_, c) = lstm(gru(packed)[0])
    h, n = pad_packed_sequence(h)
    state = None
    for frame in h:
        state = cell(frame, state)
    loss = F.cross_entropy(out(state[0]), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), n.sum().item(), tuple(c.shape), type(packed).__name__)
# %% containers: layers in a ModuleDict, weights in a ParameterList and a ParameterDict
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({"in": nn.Linear(12, 16), "keys_": LIF(), "out": nn.Linear(16, 3)})
        self.decays = nn.ParameterList([torch.full((16,), 0.5 + 0.1 * i) for i in range(4)])
        self.scales = nn.ParameterDict({"a": nn.Parameter(torch.ones(3))})
        self.decays.append(nn.Parameter(torch.zeros(()), requires_grad=False))

    def forward(self, x):
        h = x
        for name, layer in self.layers.items():
            h = layer(h)
            if name == "keys_":
                h = torch.stack([s * d for s, d in zip(h, self.decays)])
        return h * self.scales["a"]


net = Net()
train(net, 5)
print(list(net.state_dict()), len(net.decays), "in" in net.layers, net.decays[0].mean().item().hex())
print(net.decays, net.layers.pop("keys_"), sum(1 for _ in net.modules()))
# %% property-raises: a neuron whose properties raise until it is built, and count how often they were read
class Neuron(nn.Module):
    reads = 0

    def __init__(self):
        super().__init__()
        self._v = None

    @property
    def v(self):
        Neuron.reads += 1
        if self._v is None:
            raise RuntimeError("the neuron has not run yet")
        return self._v

    @property
    def v_threshold(self):
        Neuron.reads += 1
        raise NotImplementedError("thresholds differ among neurons")

    def forward(self, current):
        total = []
        self._v = torch.zeros_like(current[0])
        for i in current:
            self._v = 0.9 * self._v + 2 * i
            total.append(Spike.apply(self._v - 1))
            self._v = self._v * (1 - total[-1].detach())
        return torch.stack(total)


net = nn.Sequential(nn.Linear(12, 24), Neuron(), nn.Linear(24, 3))
try:
    net[1].v
except RuntimeError as error:
    print(error)
train(net, 5)
print(Neuron.reads, net[1].v.sum().item().hex(), Neuron.reads)
# %% getattr: a wrapper that delegates unknown attributes to what it wraps, and notes each that it was asked for
class Wrapped(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.asked = []

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            self.asked.append(name)
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x):
        return self.inner(x)


net = nn.Sequential(Wrapped(nn.Linear(12, 24)), Wrapped(LIF()), nn.Linear(24, 3))
print(net[0].in_features, net[1].beta)
train(net, 4)
print(net[0].asked, net[1].asked, hasattr(net[1], "threshold"), net[1].asked)
# %% slots: a neuron with __slots__ for its state, and a module that is a dataclass
from dataclasses import dataclass


class Slotted(nn.Module):
    __slots__ = ("calls", "v")

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, current):
        self.calls += 1
        self.v, total = current[0] * 0, []
        for i in current:
            self.v = 0.8 * self.v + 2 * i
            total.append(Spike.apply(self.v - 1))
        return torch.stack(total)


@dataclass(eq=False)
class Scale(nn.Module):
    factor: float
    bias: bool = True

    def __post_init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3)) if self.bias else 0

    def forward(self, x):
        return self.factor * x + self.shift


neuron = Slotted()
net = nn.Sequential(nn.Linear(12, 24), neuron, nn.Linear(24, 3), Scale(0.5))
train(net, 4)
print(neuron.calls, "calls" in vars(neuron), neuron.v.mean().item().hex(), net[3], Slotted.__slots__)
# %% class-state: neurons keep their potentials in attributes of the class, as does snntorch's list of instances
import snntorch as snn


class Shared(nn.Module):
    potentials = {}
    built = 0

    def __init__(self):
        super().__init__()
        self.number = Shared.built
        Shared.built += 1

    def forward(self, current):
        v = Shared.potentials.get(self.number, torch.zeros_like(current))
        v = 0.9 * v.detach() + 2 * current
        s = Spike.apply(v - 1)
        Shared.potentials[self.number] = v * (1 - s)
        return s


net = nn.Sequential(nn.Linear(12, 24), Shared(), nn.Linear(24, 24), Shared(), nn.Linear(24, 3))
leaky = [snn.Leaky(beta=0.9, init_hidden=True) for _ in range(3)]
optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
for step in range(4):
    loss = F.cross_entropy(sum(net(frame) for frame in x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), sorted(Shared.potentials), Shared.potentials[1].sum().item().hex())
print(Shared.built, len(snn.Leaky.instances), len(snn.SpikingNeuron.instances))
# %% shared: one layer and one neuron are used in two places, and weights are tied
class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(12, 12)
        self.b = self.a
        self.lif = LIF()
        self.lifs = [self.lif, self.lif]  # a plain list, which registers nothing
        self.out = nn.Linear(12, 3, bias=False)
        self.back = nn.Linear(3, 12, bias=False)
        self.back.weight = nn.Parameter(self.out.weight.t().detach())
        self.out.weight.register_hook(lambda g: g * 2)

    def forward(self, x):
        h = self.lifs[0](self.a(x))
        return self.out(self.lifs[1](self.b(h)))


net = Tied()
train(net, 5)
print([name for name, _ in net.named_modules()], [name for name, _ in net.named_modules(remove_duplicate=False)])
print(len(list(net.parameters())), len(net.state_dict()), net.a is net.b)
# %% buffers: potentials are registered buffers, one of them not persistent, which carry state between batches
class Stateful(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.register_buffer("v", torch.zeros(n))
        self.register_buffer("trace", torch.zeros(n), persistent=False)
        self.register_buffer("unset", None)

    def forward(self, current):
        spikes = []
        v = self.v.expand_as(current[0])
        for i in current:
            v = 0.9 * v + 2 * i
            s = Spike.apply(v - 1)
            v = v - s
            spikes.append(s)
        self.v.copy_(v.detach().mean(0))
        self.trace.mul_(0.5).add_(s.detach().mean(0))
        return torch.stack(spikes)


net = nn.Sequential(nn.Linear(12, 24), Stateful(24), nn.Linear(24, 3))
train(net, 4)
print(list(net.state_dict()), [name for name, _ in net.named_buffers()], net[1].v._version, net[1].trace._version)
print(net[1].v.sum().item().hex(), net[1].trace.sum().item().hex())
# %% state-hooks: hooks before and after states are written and loaded, extra state, and keys that are renamed
import json


class Versioned(LIF):
    _version = 2

    def get_extra_state(self):
        return {"beta": self.beta, "device": "cpu"}

    def set_extra_state(self, state):
        print("extra", json.dumps(state))
        self.beta = state["beta"]


def rename(module, state, prefix, metadata, strict, missing, unexpected, errors):
    for key in [k for k in state if k.startswith("old.")]:
        state[key.removeprefix("old.")] = state.pop(key)
    print("before", prefix, sorted(state), metadata.get("version"))


net = nn.Sequential(nn.Linear(12, 24), Versioned(), nn.Linear(24, 3))
net.register_state_dict_pre_hook(lambda module, prefix, keep: print("writing", repr(prefix), keep))
net.register_state_dict_post_hook(lambda module, state, prefix, meta: print("written", len(state)))
net.register_load_state_dict_pre_hook(rename)
net.register_load_state_dict_post_hook(lambda module, keys: print("after", keys))
train(net, 3)
state = {f"old.{k}": v for k, v in net.state_dict().items()}
print(net.load_state_dict(state, strict=False))
train(net, 2)
# %% own-hooks: forward and backward hooks of the script's own, with keywords, always called, and in a given order
log = []


class Gate(nn.Module):
    def forward(self, spikes, *, gain=1.0):
        if gain < 0:
            raise ValueError("gain")
        return spikes * gain


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.lif, self.gate, self.fc2 = nn.Linear(12, 24), LIF(), Gate(), nn.Linear(24, 3)

    def forward(self, x, gain=2.0):
        return self.fc2(self.gate(self.lif(self.fc1(x)), gain=gain))


net = Net()
net.gate.register_forward_pre_hook(lambda m, args, kwargs: (args, {"gain": kwargs["gain"] / 2}), with_kwargs=True)
net.gate.register_forward_hook(lambda m, args, kwargs, out: log.append(("gate", kwargs["gain"])), with_kwargs=True)
net.gate.register_forward_hook(lambda m, args, out: log.append(("always", out is None)), always_call=True)
net.lif.register_forward_hook(lambda m, args, out: out.clamp(max=0.5))
net.lif.register_forward_hook(lambda m, args, out: log.append(("first", out.max().item())), prepend=True)
net.fc2.register_full_backward_pre_hook(lambda m, go: (go[0] * 0.5,))
net.fc2.register_full_backward_hook(lambda m, gi, go: log.append(("back", gi[0].norm().item().hex(), len(go))))
net.fc1.register_full_backward_hook(lambda m, gi, go: log.append(("end", gi[0])))
train(net, 3)
try:
    net(x, gain=-1)
except ValueError as error:
    print(error)
for entry in log:
    print(*entry)
# %% global-hooks: hooks on all modules, which the script registers and counts itself
from collections import Counter

from torch.nn.modules import module

before = [len(hooks) for hooks in (module._global_forward_hooks, module._global_forward_pre_hooks, module._global_backward_hooks)]
calls = Counter()


def count(m, inputs, output):
    calls[type(m).__name__] += 1
    calls["global hooks seen"] = max(calls["global hooks seen"], len(module._global_forward_hooks))


handles = [
    module.register_module_forward_hook(count),
    module.register_module_forward_pre_hook(lambda m, inputs: calls.update(["before"])),
    module.register_module_full_backward_hook(lambda m, gi, go: calls.update(["backward " + type(m).__name__])),
]
train(build(), 3)
print(before, sorted(calls.items()))
for handle in handles:
    handle.remove()
train(build(), 1)
print(sorted(calls.items()), len(module._global_forward_hooks), module._global_is_full_backward_hook)
# %% registration-hooks: hooks on the registration of parameters, buffers and modules, which change what is registered
from torch.nn.modules import module

log = []


def half(m, name, parameter):
    log.append(("parameter", type(m).__name__, name, None if parameter is None else tuple(parameter.shape)))
    if name == "bias" and parameter is not None:
        return nn.Parameter(torch.zeros_like(parameter))


handles = [
    module.register_module_parameter_registration_hook(half),
    module.register_module_buffer_registration_hook(lambda m, name, b: log.append(("buffer", type(m).__name__, name))),
    module.register_module_module_registration_hook(lambda m, name, c: log.append(("module", type(m).__name__, name))),
]
net = build()
net.add_module("norm", nn.BatchNorm1d(4))
for handle in handles:
    handle.remove()
for entry in log:
    print(*entry)
print(net[0].bias.sum().item())
train(net[:3], 4)
# %% outputs: networks that return dictionaries, dataclasses, named tuples, nested lists and None
from dataclasses import dataclass
from typing import NamedTuple


@dataclass
class Output:
    logits: torch.Tensor
    spikes: list
    loss: torch.Tensor | None = None


class State(NamedTuple):
    v: torch.Tensor
    s: torch.Tensor


class Cell(nn.Module):
    def forward(self, current, state=None):
        v = 2 * current if state is None else 0.9 * state.v * (1 - state.s) + 2 * current
        return State(v, Spike.apply(v - 1))


class Log(nn.Module):
    def forward(self, **values):
        self.seen = sorted(values)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.cell, self.fc2, self.log = nn.Linear(12, 24), Cell(), nn.Linear(24, 3), Log()

    def forward(self, batch, labels=None):
        state, out = None, Output(0, [])
        for frame in batch["frames"]:
            state = self.cell(self.fc1(frame), state)
            out.spikes.append([state.s, {"v": state.v}])
            out.logits = out.logits + self.fc2(state.s)
        if labels is not None:
            out.loss = F.cross_entropy(out.logits, labels)
        print(self.log(logits=out.logits, state=state, nothing=None))
        return out


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for _ in range(3):
    out = net({"frames": x}, labels=y)
    optimizer.zero_grad()
    out.loss.backward()
    optimizer.step()
    print(out.loss.item().hex(), type(out).__name__, len(out.spikes), type(out.spikes[0]).__name__, net.log.seen)
# %% built-in-forward: layers are built in the forward pass, and the network grows while it is trained
class Growing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList()
        self.width = 12

    def grow(self, width):
        self.layers.append(nn.Sequential(nn.Linear(self.width, width), LIF()))
        self.width = width
        self.out = nn.Linear(width, 3)

    def forward(self, x):
        if not self.layers:
            self.grow(16)
        for layer in self.layers:
            x = layer(x)
        scale = nn.Hardtanh(0, 2)(x * 1.5)
        return self.out(nn.Dropout(0.1)(scale))


net = Growing()
net(x)
for width in (20, 24):
    train(net, 2)
    net.grow(width)
    print(len(list(net.modules())), sum(p.numel() for p in net.parameters()))
train(net, 2)
# %% train-eval: train and eval are overridden, and the normalisation stays frozen
class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.norm, self.lif, self.fc2 = nn.Linear(12, 24), nn.BatchNorm1d(24), LIF(), nn.Linear(24, 3)
        self.modes = []

    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        self.modes.append(mode)
        return self

    def forward(self, x):
        return self.fc2(self.lif(self.norm(self.fc1(x).transpose(1, 2)).transpose(1, 2)))


net = Frozen()
net.fc1 = nn.Linear(12, 4)
net.norm = nn.BatchNorm1d(4)
net.fc2 = nn.Linear(4, 3)
for _ in range(2):
    net.train()
    train(net, 2)
    net.eval()
    with torch.no_grad():
        print(F.cross_entropy(net(x).mean(0), y).item().hex(), [m.training for m in net.children()])
print(net.modes, net.norm.num_batches_tracked.item(), net.training)
# %% apply: weights are initialised by apply, and conversions go through an overridden _apply
calls = []


def initialise(m):
    calls.append(type(m).__name__)
    if isinstance(m, nn.Linear):
        nn.init.orthogonal_(m.weight)
        nn.init.constant_(m.bias, 0.1)


class Counting(nn.Linear):
    applied = 0

    def _apply(self, fn, recurse=True):
        Counting.applied += 1
        return super()._apply(fn, recurse)


net = nn.Sequential(Counting(12, 24), LIF(), nn.Linear(24, 3)).apply(initialise)
print(calls, Counting.applied)
pointers = [p.data_ptr() for p in net.parameters()]
net = net.double().float().to("cpu", memory_format=torch.contiguous_format)
print(Counting.applied, [p.dtype for p in net.parameters()], net.share_memory() is net, Counting.applied)
train(net, 4)
print([p.is_shared() for p in net.parameters()])
# %% repr: modules whose representation prints, raises, or counts
class Loud(LIF):
    shown = 0

    def extra_repr(self):
        Loud.shown += 1
        print("shown", Loud.shown)
        return f"beta={self.beta}"


class Shy(nn.Linear):
    def __repr__(self):
        raise RuntimeError("no representation before the data are known")

    def __str__(self):
        return "shy"


net = nn.Sequential(Shy(12, 24), Loud(), nn.Linear(24, 3))
train(net, 4)
print(Loud.shown, net[1], f"{net[0]}")
try:
    print(net)
except RuntimeError as error:
    print(error)
# %% own-call: __call__ is overridden, forward is replaced on an instance and on a class, and put back
import types

calls = []


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = build()

    def __call__(self, *args, **kwargs):
        calls.append("call")
        return super().__call__(*args, **kwargs)

    def forward(self, x):
        return self.body(x)


def halved(self, x):
    calls.append("halved")
    return F.linear(x, self.weight, self.bias) / 2


original = nn.Linear.forward


def logged(self, x):
    calls.append(f"{self.in_features} to {self.out_features}")
    return original(self, x)


net = Net()
net.body[2].forward = types.MethodType(halved, net.body[2])
nn.Linear.forward = logged
train(net, 2)
nn.Linear.forward = original
train(net, 1)
print(calls)
print(nn.Linear.forward.__qualname__, nn.Module.__call__.__qualname__, nn.Module.__call__ is nn.Module._wrapped_call_impl)
# %% parametrised: spectral norm, weight norm, and a parametrization that counts how often the weight is computed
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm


class Positive(nn.Module):
    calls = 0

    def forward(self, w):
        Positive.calls += 1
        return w.abs()

    def right_inverse(self, w):
        return w


net = nn.Sequential(
    spectral_norm(nn.Linear(12, 24)), LIF(), weight_norm(nn.Linear(24, 24)), LIF(), orthogonal(nn.Linear(24, 24)), LIF(), nn.Linear(24, 3)
)
parametrize.register_parametrization(net[6], "weight", Positive())
train(net, 4)
print(Positive.calls, type(net[6]).__name__, isinstance(net[6], nn.Linear), net[0].parametrizations.weight[0]._u.sum().item().hex())
with parametrize.cached():
    net(x), net(x)
print(Positive.calls)
# %% noisy-weights: a parametrization draws noise whenever the weight is read, as do devices with noise
from torch.nn.utils import parametrize


class Noise(nn.Module):
    def forward(self, w):
        return w * (1 + 0.05 * torch.randn_like(w))


net = build()
for layer in (net[0], net[2]):
    parametrize.register_parametrization(layer, "weight", Noise())
train(net, 6)
print(torch.rand(1).item().hex())
# %% pruning: weights are pruned while the network is trained, and what pruning left is made permanent
from torch.nn.utils import prune

net = build()
prune.random_unstructured(net[0], "weight", amount=0.3)
prune.l1_unstructured(net[2], "weight", amount=4)
train(net, 2)
prune.global_unstructured([(net[0], "weight"), (net[2], "weight")], prune.L1Unstructured, amount=0.2)
train(net, 2)
print([name for name, _ in net.named_parameters()], [len(m._forward_pre_hooks) for m in net])
for layer in (net[0], net[2]):
    prune.remove(layer, "weight")
    print((layer.weight == 0).sum().item(), list(layer._forward_pre_hooks))
# %% named-modules: rectifiers are replaced by neurons of spikingjelly, found by name, and outputs taken at a name
from spikingjelly.activation_based import functional, neuron

net = nn.Sequential()
net.add_module("features", nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU()))
net.add_module("head", nn.Linear(20, 3))
for name, module in list(net.named_modules()):
    if isinstance(module, nn.ReLU):
        parent, _, child = name.rpartition(".")
        setattr(net.get_submodule(parent), child, neuron.IFNode(v_threshold=0.3, step_mode="m"))
net.set_submodule("features.2", nn.Linear(20, 20, bias=False))
taken = {}
net.get_submodule("features.3").register_forward_hook(lambda m, i, o: taken.update(rate=o.mean().item().hex()))
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for _ in range(4):
    loss = F.cross_entropy(net(x).mean(0), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    functional.reset_net(net)
    print(loss.item().hex(), taken)
print([f"{name}:{type(m).__name__}" for name, m in net.named_modules()], net.get_parameter("head.bias").shape)
# %% identities: names, modules and signatures of functions of torch, as a registry of a framework may read them
import inspect
import types

for function in (F.cross_entropy, F.mse_loss, F.dropout, F.linear, torch.stack, torch.save, torch.load, torch.relu):
    print(getattr(function, "__module__", None), function.__name__, getattr(function, "__qualname__", None), type(function).__name__)
train(build(), 2)
for function in (F.cross_entropy, nn.Module.forward, nn.Module.__call__, nn.Linear.forward, nn.Module.register_forward_hook):
    print(inspect.signature(function), function.__code__.co_name, function.__closure__, function.__defaults__ is None)
for method in (torch.Tensor.backward, torch.optim.Optimizer.zero_grad, torch.optim.SGD.step, torch.autograd.backward):
    print(method.__module__, method.__qualname__, list(inspect.signature(method).parameters))
print(nn.CrossEntropyLoss()(torch.zeros(1, 2), torch.tensor([1])).item().hex(), isinstance(F.cross_entropy, types.FunctionType))
# %% falsy: networks that have a length, are false, or iterate, like collections
class Ensemble(nn.Module):
    def __init__(self, *members):
        super().__init__()
        for i, member in enumerate(members):
            setattr(self, f"member{i}", member)
        self.asked = 0

    def __len__(self):
        self.asked += 1
        return 0

    def __iter__(self):
        raise TypeError("iterate over children()")

    def __contains__(self, item):
        raise TypeError("ask children()")

    def forward(self, x):
        return sum(child(x) for child in self.children())


net = Ensemble(build(), build(16))
print(bool(net), net.asked)
train(net, 4)
print(net.asked, len(nn.Sequential()), bool(nn.ModuleList()))
# %% freed-networks: networks are built and dropped in a search, and none of them is left alive
import gc
import weakref

alive, scores = [], []
for width in (8, 16, 24):
    torch.manual_seed(width)
    net = build(width)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    for _ in range(3):
        loss = F.cross_entropy(net(x).mean(0), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scores.append(loss.item().hex())
    alive += [weakref.ref(net), weakref.ref(net[0].weight), weakref.ref(optimizer)]
    del net, optimizer, loss
    gc.collect()
print(scores, [reference() is None for reference in alive])
print(sum(type(o) is LIF for o in gc.get_objects()))
# %% swapped: parameters are swapped when a network is converted and loaded, which weak references to them would forbid
torch.__future__.set_swap_module_params_on_conversion(True)
net = build()
train(net, 2)
state = {name: value.double() for name, value in net.state_dict().items()}
net.double()
print([p.dtype for p in net.parameters()], net.load_state_dict(state, assign=False))
net.float()
net.zero_grad()
a, b = net[0].weight, nn.Parameter(torch.zeros(24, 12))
torch.utils.swap_tensors(a, b)
print(a.abs().sum().item(), b.norm().item().hex(), net[0].weight is a)
train(net, 3)
# %% setattr: attributes that a module refuses, freezes, or turns into others
class Sealed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = build()
        self.history = []
        object.__setattr__(self, "sealed", True)

    def __setattr__(self, name, value):
        if getattr(self, "sealed", False) and name not in ("training", "steps"):
            raise AttributeError(f"{name} may not be set")
        super().__setattr__(name, value)

    def __delattr__(self, name):
        raise AttributeError(f"{name} may not be deleted")

    def forward(self, x):
        self.steps = getattr(self, "steps", 0) + 1
        return self.body(x)


net = Sealed()
train(net, 4)
print(net.steps, sorted(set(vars(net)) - set(vars(nn.Module()))))
try:
    net.extra = 1
except AttributeError as error:
    print(error)
try:
    net.register_forward_hook(lambda m, i, o: net.history.append(o.sum().item().hex()))
finally:
    train(net, 2)
print(net.history)
# %% metaclass: a metaclass registers every network by its name, and counts those that are built
class Registry(type):
    classes, built = [], []

    def __new__(cls, name, bases, namespace):
        made = super().__new__(cls, name, bases, namespace)
        Registry.classes.append(name)
        return made

    def __call__(cls, *args, **kwargs):
        made = super().__call__(*args, **kwargs)
        Registry.built.append(cls.__name__)
        return made


class Base(nn.Module, metaclass=Registry):
    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.kind = cls.__name__.lower()


class Neuron(LIF, Base):
    pass


class Small(Base):
    def __init__(self):
        super().__init__()
        self.fc1, self.lif, self.fc2 = nn.Linear(12, 8), Neuron(), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(self.lif(self.fc1(x)))


train(Small(), 4)
print(Registry.classes, Registry.built, Small.kind, Neuron.kind, Base.__subclasses__())
# %% spikingjelly-state: memories of spikingjelly's neurons, read, reset, and saved with the network
from spikingjelly.activation_based import functional, layer, neuron

net = nn.Sequential(layer.Linear(12, 16), neuron.ParametricLIFNode(v_reset=None), layer.Linear(16, 3), neuron.LIFNode(store_v_seq=True))
functional.set_step_mode(net, "m")
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for _ in range(4):
    loss = F.mse_loss(net(4 * x).mean(0), F.one_hot(y, 3).float())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), tuple(net[3].v_seq.shape), net[3].v.sum().item().hex())
    kept = {name: memory.detach().clone() for name, memory in net[1].named_memories()}
    functional.reset_net(net)
print({name: tuple(memory.shape) for name, memory in kept.items()}, net[1].v, list(net.state_dict()), type(net[3]._memories).__name__)
torch.save(net, "net.pt")
loaded = torch.load("net.pt", weights_only=False)
print(torch.equal(loaded(x), net(x)), loaded[3].v.shape)
# %% norse-state: norse's sequential container carries the states of its cells, which are named tuples
import norse.torch as norse

net = norse.SequentialState(nn.Linear(12, 16), norse.LIFCell(), nn.Linear(16, 3), norse.LICell())
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for _ in range(4):
    state, total = None, 0
    for frame in x:
        out, state = net(30 * frame, state)
        total = total + out
    loss = F.cross_entropy(total, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), [type(s).__name__ for s in state], state[1].v.sum().item().hex())
out, states = norse.LIF()(50 * x)
print(out.sum().item(), states._fields, net.stateful_layers)
# %% lsg-layers: neurons of lsg in a network of one's own, which is saved, loaded, copied and trained
import copy

from lsgcli import LIF as LearnedLIF

net = nn.Sequential(nn.Linear(12, 24), LearnedLIF(method="lsg", backend="reference"), nn.Linear(24, 3))
train(net, 4)
twin = copy.deepcopy(net)
print(list(net.state_dict()), sum(p.numel() for p in net.parameters()))
train(twin, 2)
train(net, 2)
torch.save(net.state_dict(), "net.pt")
other = nn.Sequential(nn.Linear(12, 24), LearnedLIF(method="lsg", backend="reference"), nn.Linear(24, 3))
print(other.load_state_dict(torch.load("net.pt")), torch.equal(other(x), net(x)))
# %% snntorch-hidden: snntorch's neurons with hidden state in a sequence, reset before each batch, with outputs as tuples
import snntorch as snn
from snntorch import functional, utils

net = nn.Sequential(nn.Linear(12, 24), snn.Leaky(beta=0.9, init_hidden=True), nn.Linear(24, 3), snn.Leaky(beta=0.8, init_hidden=True, output=True))
loss_function = functional.ce_rate_loss()
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for _ in range(4):
    utils.reset(net)
    spikes, potentials = zip(*(net(2 * frame) for frame in x))
    loss = loss_function(torch.stack(spikes), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), torch.stack(potentials).sum().item().hex())
print(list(net.state_dict()), net[1].mem.shape, type(net[1].mem).__name__)
