import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = (torch.rand(4, 12, 10) < 0.4).float()  # (T, B, features)
y = torch.randint(0, 3, (12,))


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
    def forward(self, current):
        v, spikes = torch.zeros_like(current[0]), []
        for i in current:
            v = 0.9 * v + 2 * i
            spikes.append(Spike.apply(v - 1))
            v = v - spikes[-1].detach()
        return torch.stack(spikes)


class Soft(nn.Module):
    def __init__(self, n: int = 10, m: int = 3):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(n, 16), nn.Linear(16, m)
        self.beta = 0.9

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        current = 2 * self.fc1(x)
        v = torch.zeros_like(current[0])
        out = torch.zeros(x.size(1), 3)
        for t in range(x.size(0)):
            v = self.beta * v + current[t]
            s = torch.sigmoid(4 * (v - 1))
            v = v - s
            out = out + self.fc2(s)
        return out / x.size(0)


def train(net, steps=4, loss_function=F.cross_entropy):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    for _ in range(steps):
        loss = loss_function(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item().hex())


# %% scripted-loss: a scripted function with cross_entropy, mse_loss and dropout in it, for a network that is not scripted
@torch.jit.script
def loss_of(out: torch.Tensor, target: torch.Tensor, training: bool) -> torch.Tensor:
    dropped = F.dropout(out, 0.2, training)
    one_hot = F.one_hot(target, 3).to(out.dtype)
    return F.cross_entropy(dropped, target) + 0.1 * F.mse_loss(torch.softmax(out, 1), one_hot)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 16), LIF(), nn.Linear(16, 3))

    def forward(self, x):
        return self.body(x).mean(0)


train(Net(), 5, lambda out, y: loss_of(out, y, True))
print(type(loss_of).__name__, loss_of.name, [n.kind() for n in loss_of.inlined_graph.nodes()].count("aten::cross_entropy_loss"), torch.rand(1).item().hex())
# %% scripted-module: a network with dropout and a loss in its forward pass is scripted whole and trained
class WithLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Soft()
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.net(self.dropout(x))
        out = F.dropout(out, p=0.1, training=self.training)
        return F.cross_entropy(out, y), F.mse_loss(out, torch.zeros_like(out))


net = torch.jit.script(WithLoss())
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for _ in range(5):
    loss, size = net(x, y)
    optimizer.zero_grad()
    (loss + 0.01 * size).backward()
    optimizer.step()
    print(loss.item().hex(), size.item().hex())
net.eval()
print(net(x, y)[0].item().hex(), type(net).__name__, net.original_name, [name for name, _ in net.named_modules()])
# %% traced: a spiking network with a surrogate is traced, its nodes are counted, and it computes the same
from collections import Counter

net = nn.Sequential(nn.Linear(10, 16), LIF(), nn.Linear(16, 3))
traced = torch.jit.trace(net.eval().requires_grad_(False), x)
print(sum(1 for _ in traced.graph.nodes()), sorted(Counter(n.kind() for n in traced.inlined_graph.nodes()).items()))
print(torch.equal(traced(x), net(x)), traced(x).sum().item().hex())
net.train().requires_grad_(True)
traced = torch.jit.trace(net, x, check_trace=True)
inlined = traced.inlined_graph
print(len(list(inlined.nodes())), [name for name, _ in traced.named_children()])
for _ in range(3):
    loss = F.cross_entropy(net(x).mean(0), y)
    net.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p in net.parameters():
            p -= 0.3 * p.grad
    print(loss.item().hex(), F.cross_entropy(traced(x).mean(0), y).item().hex())
# %% trace-warnings: what tracing warns of when a network asks for numbers of tensors, and what it bakes in
import warnings


class Adaptive(nn.Module):
    calls = 0

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(10, 3)

    def forward(self, x):
        Adaptive.calls += 1
        out = self.fc(x).mean(0)
        if out.max() > 0:
            out = out / float(out.abs().max())
        return out


net = Adaptive()
with warnings.catch_warnings(record=True) as shown:
    warnings.simplefilter("always")
    traced = torch.jit.trace(net, x, check_trace=False)
tracer = [w for w in shown if issubclass(w.category, torch.jit.TracerWarning)]
print(len(tracer), [str(w.message)[:40] for w in tracer], Adaptive.calls)
train(net, 3)
print(traced(x).sum().item().hex(), traced(2 * x).sum().item().hex(), Adaptive.calls)
# %% trace-module: several methods of a network are traced at once, and saved
import io


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(10, 16), nn.Linear(16, 3)

    def encode(self, x):
        return (self.encoder(x) > 0.5).float()

    def rate(self, spikes):
        return spikes.mean()

    def forward(self, x):
        return self.head(torch.tanh(self.encoder(x))).mean(0)


net = Two()
train(net, 3)
traced = torch.jit.trace_module(net, {"forward": x, "encode": x, "rate": torch.ones(3, 4)})
print(traced(x).sum().item().hex(), traced.encode(x).sum().item(), traced.rate(traced.encode(x)).item().hex())
buffer = io.BytesIO()
torch.jit.save(traced, buffer)
buffer.seek(0)
loaded = torch.jit.load(buffer)
print(loaded(x).sum().item().hex(), loaded.encode.name if hasattr(loaded.encode, "name") else "encode", list(loaded.state_dict()))
train(net, 2)
# %% frozen: a scripted network is frozen with an attribute and a method kept, and optimised for inference
class Kept(Soft):
    version: int

    def __init__(self):
        super().__init__()
        self.version = 3

    @torch.jit.export
    def rate(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.fc1(x)).mean()


net = Kept()
train(net, 3)
scripted = torch.jit.script(net.eval())
frozen = torch.jit.freeze(scripted, preserved_attrs=["version", "rate"])
print(len(list(scripted.parameters())), len(list(frozen.parameters())), frozen.version, frozen.rate(x).item().hex())
fast = torch.jit.optimize_for_inference(frozen)
with torch.no_grad():
    print(scripted(x).sum().item().hex(), torch.allclose(frozen(x), scripted(x)), torch.allclose(fast(x), scripted(x), atol=1e-6))
print(hasattr(frozen, "fc1"), scripted.training)
# %% saved: a scripted network goes through a file and a buffer with extra files, and its code is hashed
import hashlib
import io

net = torch.jit.script(Soft())
train(net, 3)
extra = {"settings.txt": "beta=0.9"}
buffer = io.BytesIO()
torch.jit.save(net, buffer, _extra_files=extra)
buffer.seek(0)
found = {"settings.txt": ""}
loaded = torch.jit.load(buffer, _extra_files=found)
print(found, len(buffer.getvalue()) > 1000, hashlib.sha256(loaded.code.encode()).hexdigest()[:16])
print(torch.equal(loaded(x), net(x)), loaded.beta, loaded.original_name)
train(loaded, 3)
print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in loaded.parameters())).hexdigest()[:16])
# %% decorators: ignored, unused and exported methods, final attributes, and calls that go back to Python
from typing import Final

calls = []


class Decorated(nn.Module):
    steps: Final[int] = 2

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(10, 3)

    @torch.jit.ignore
    def log(self, rate: float) -> None:
        calls.append(rate.hex())

    @torch.jit.unused
    def plot(self, x: torch.Tensor) -> torch.Tensor:
        import matplotlib_of_another_machine

        return x

    @torch.jit.export
    def halve(self, x: torch.Tensor) -> torch.Tensor:
        return x / self.steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.steps > 2:
            x = self.plot(x)
        s = torch.sigmoid(self.fc(x))
        self.log(s.mean().item())
        return self.halve(s).mean(0)


net = torch.jit.script(Decorated())
train(net, 4)
print(calls, net.halve(torch.ones(1)).item(), Decorated.log.__name__)
# %% is-scripting: a network asks whether it is scripted or traced, and functions are scripted only while tracing
modes = []


@torch.jit.script_if_tracing
def decay(v: torch.Tensor, steps: int):
    for _ in range(steps):
        v = 0.5 * v
    return v


class Asking(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(10, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.jit.is_scripting():
            modes.append((torch.jit.is_scripting(), torch.jit.is_tracing()))
        return decay(self.fc(x).mean(0), 2)


net = Asking()
train(net, 3)
traced = torch.jit.trace(net, x, check_trace=False)
print(modes, traced(x).sum().item().hex(), type(decay).__name__, decay.__name__)
print([n.kind() for n in traced.graph.nodes()][-3:])
# %% script-module: a ScriptModule of the older kind with script_method, a constant and an attribute
class Leaky(torch.jit.ScriptModule):
    __constants__ = ["threshold"]

    def __init__(self, n):
        super().__init__()
        self.threshold = 1.0
        self.beta = nn.Parameter(torch.full((n,), 0.8))
        self.calls = torch.jit.Attribute(0, int)

    @torch.jit.script_method
    def forward(self, current: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        v = torch.zeros_like(current[0])
        out: list[torch.Tensor] = []
        for t in range(current.size(0)):
            v = self.beta * v + 2 * current[t]
            s = torch.sigmoid(5 * (v - self.threshold))
            v = v - s
            out.append(s)
        return torch.stack(out)


leaky = Leaky(16)
fc1, fc2 = nn.Linear(10, 16), nn.Linear(16, 3)
net = nn.Sequential(fc1, leaky, fc2)
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for _ in range(5):
    loss = F.cross_entropy(net(x).mean(0), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), leaky.calls, leaky.beta.mean().item().hex())
# %% scripted-layers: scripted layers between spiking neurons in Python, with hooks of the script's own
rates = []
net = nn.Sequential(torch.jit.script(nn.Linear(10, 16)), LIF(), torch.jit.script(nn.Sequential(nn.Linear(16, 8), nn.Tanh())), nn.Linear(8, 3))
net[1].register_forward_hook(lambda m, i, o: rates.append(o.mean().item().hex()))
try:
    net[0].register_forward_hook(lambda m, i, o: None)
except RuntimeError as error:
    print(error)
optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
for _ in range(4):
    loss = F.cross_entropy(net(x).mean(0), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
print(rates, [type(m).__name__ for m in net.modules()], [m.original_name for m in net.modules() if hasattr(m, "original_name")])
# %% fork: two halves of a network run by fork and wait, and a class and an enumeration in a script
from enum import Enum


class Mode(Enum):
    RATE = 1
    LAST = 2


@torch.jit.script
class Readout:
    def __init__(self, scale: float):
        self.scale = scale

    def read(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x


class Forked(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(10, 3), nn.Linear(10, 3)
        self.mode = Mode.RATE

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        future = torch.jit.fork(self.a, x)
        b = torch.relu(self.b(x))
        out = torch.jit.wait(future) + b
        readout = Readout(2.0)
        if self.mode == Mode.RATE:
            return readout.read(out.mean(0))
        return readout.read(out[-1])


net = torch.jit.script(Forked())
train(net, 5)
print(sum(1 for n in net.graph.nodes() if n.kind() == "prim::fork"), net.b.weight.grad.norm().item().hex())
# %% copied: scripted networks are copied, their parameters shared with the original, and their schemas printed
import copy

plain = Soft()
net = torch.jit.script(plain)
with torch.no_grad():
    twin = copy.deepcopy(net)
print([p.requires_grad for p in twin.parameters()])
for p in twin.parameters():
    p.requires_grad_(True)
train(net, 3)
print(plain.fc1.weight.data_ptr() == net.fc1.weight.data_ptr(), torch.equal(plain(x), net(x)))
train(twin, 3)
print(net.forward.schema, list(net._modules.keys()) if hasattr(net._modules, "keys") else None)
print([name for name, p in net.named_parameters() if p.grad is not None], torch.equal(twin(x), net(x)))
# %% disabled-fusion: script with profiling switched, its executed graphs after warming up, and errors of a script
with torch.jit.fuser("fuser0"), torch.jit.optimized_execution(False):
    net = torch.jit.script(Soft())
    train(net, 4)
try:
    net(torch.zeros(2, 3))
except RuntimeError as error:
    print(type(error).__name__, "shapes" in str(error))


def unsupported(x):
    yield x


try:
    torch.jit.script(unsupported)
except Exception as error:
    print(type(error).__name__)
print(torch.jit.annotate(list[int], [1, 2]))
# %% warnings: warnings that scripting and tracing show, by category, beside training that shows none
import warnings

with warnings.catch_warnings(record=True) as shown:
    warnings.simplefilter("always")
    net = nn.Sequential(nn.Linear(10, 16), LIF(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    for _ in range(3):
        loss = F.cross_entropy(net(x).mean(0), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item().hex())
    print(len(shown))
    torch.jit.trace(net, x, check_trace=False)
    print(sorted({w.category.__name__ for w in shown}), len(shown))
    torch.jit.script(Soft())
    print(sorted({w.category.__name__ for w in shown}), len(shown))
