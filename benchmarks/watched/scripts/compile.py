import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = (torch.rand(3, 8, 10) < 0.4).float()  # (T, B, features)
y = torch.randint(0, 3, (8,))


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad / (1 + (3 * v).abs()) ** 2


def lif(current, beta=0.9):
    v, spikes = torch.zeros_like(current[0]), []
    for i in current.unbind(0):
        v = beta * v + i
        s = Spike.apply(v - 1)
        v = v - s
        spikes.append(s)
    return torch.stack(spikes)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(10, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.fc2(lif(2 * self.fc1(x))).mean(0)


def train(net, steps=4, frames=x, loss_function=F.cross_entropy):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    for _ in range(steps):
        loss = loss_function(net(frames), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item().hex())


# %% module: a compiled spiking network, whose graphs a backend of the script's own counts
graphs = []


def backend(graph, inputs):
    graphs.append((len(graph.graph.nodes), sum(node.op == "call_function" for node in graph.graph.nodes), len(inputs)))
    return graph.forward


net = torch.compile(Net(), backend=backend)
train(net)
print(graphs, type(net).__name__, list(net.state_dict()))
net.eval()
with torch.no_grad():
    print(net(x).sum().item().hex())
print(graphs)
# %% fullgraph: a network with a surrogate is compiled as one graph, and no graph break is allowed
from torch._dynamo.utils import counters

net = torch.compile(Net(), backend="eager", fullgraph=True)
train(net, 5)
print(dict(counters["stats"]), dict(counters["graph_break"]), len(counters["frames"]))
# %% aot-eager: forward and backward graphs of aot_eager, beside the same network uncompiled
import copy

from torch._dynamo.utils import counters

net = Net()
plain = copy.deepcopy(net)
train(torch.compile(net, backend="aot_eager", fullgraph=True), 3)
train(plain, 3)
print(torch.equal(net.fc1.weight, plain.fc1.weight), counters["aot_autograd"]["total"], counters["aot_autograd"]["ok"])
print(counters["stats"]["unique_graphs"], sum(counters["graph_break"].values()))
# %% aot-graphs: the nodes of the forward and backward graphs that aot_autograd hands to compilers of the script's own
from functorch.compile import aot_module, make_boxed_func

sizes = {}


def compiler(name):
    def compile_graph(graph, inputs):
        targets = [str(n.target) for n in graph.graph.nodes if n.op == "call_function"]
        sizes[name] = len(targets), sorted(set(targets))
        return make_boxed_func(graph.forward)

    return compile_graph


net = aot_module(Net(), fw_compiler=compiler("forward"), bw_compiler=compiler("backward"))
train(net, 3)
for name, (count, targets) in sizes.items():
    print(name, count, *targets)
# %% function: the loop over time is a compiled function between layers that are not compiled
from torch._dynamo.testing import CompileCounter

counter = CompileCounter()
compiled = torch.compile(lif, backend=counter, fullgraph=True)


class Mixed(Net):
    def forward(self, x):
        return self.fc2(compiled(2 * self.fc1(x))).mean(0)


train(Mixed(), 5)
print(counter.frame_count, counter.op_count)
# %% dynamic: batches of several sizes with dynamic shapes, and how often it was compiled again
from torch._dynamo.testing import CompileCounter

counter = CompileCounter()
net = Net()
compiled = torch.compile(net, backend=counter, dynamic=True)
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for size in (8, 5, 7, 3, 8):
    loss = F.cross_entropy(compiled(x[:, :size]), y[:size])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(size, loss.item().hex(), counter.frame_count)
# %% automatic-dynamic: sizes become dynamic when they change, and a limit on compiling again is an error
import torch._dynamo.config
from torch._dynamo.testing import CompileCounter

torch._dynamo.config.recompile_limit = 2
torch._dynamo.config.fail_on_recompile_limit_hit = True
counter = CompileCounter()
net = Net()
compiled = torch.compile(net, backend=counter)
train(net, 1)
for size in (8, 6, 4, 2):
    print(F.cross_entropy(compiled(x[:, :size]), y[:size]).item().hex(), counter.frame_count)
# %% compiled-loss: the loss is compiled with the network in one function, with smoothed labels and a penalty
from torch._dynamo.testing import CompileCounterWithBackend

counter = CompileCounterWithBackend("aot_eager")
net = Net()


@torch.compile(backend=counter, fullgraph=True)
def loss_function(x, y):
    out = net(x)
    loss = F.cross_entropy(out, y, label_smoothing=0.1)
    return loss + 0.01 * F.mse_loss(out, torch.zeros_like(out)), out.detach()


optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for _ in range(4):
    loss, out = loss_function(x, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), out.argmax(1).tolist(), counter.frame_count)
print([len(graph.graph.nodes) for graph in counter.graphs])
# %% compiled-optimiser: the step of the optimiser is compiled, with a rate that is a tensor
from torch._dynamo.testing import CompileCounter

counter = CompileCounter()
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=torch.tensor(0.02))


@torch.compile(backend=counter)
def update():
    optimizer.step()


for _ in range(4):
    loss = F.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    update()
    optimizer.param_groups[0]["lr"].mul_(0.9)
    print(loss.item().hex(), counter.frame_count > 0)
print(counter.frame_count, counter.op_count, optimizer.state[net.fc1.weight]["step"].item())
# %% graph-breaks: a network with a print, an item() and a break on purpose, and how often that broke its graph
from torch._dynamo.utils import counters


class Broken(Net):
    def forward(self, x):
        s = lif(2 * self.fc1(x))
        print("rate", s.mean().item().hex())
        out = self.fc2(s)
        torch._dynamo.graph_break()
        if out.mean() > 100:
            out = out / 2
        return out.mean(0)


train(torch.compile(Broken(), backend="eager"), 3)
print(sum(counters["graph_break"].values()), counters["stats"]["unique_graphs"], counters["frames"]["total"])
# %% disabled: neurons are kept out of compilation by torch.compiler.disable, between layers that are compiled
from torch._dynamo.testing import CompileCounter

counter = CompileCounter()


class Neuron(nn.Module):
    calls = 0

    @torch.compiler.disable
    def forward(self, current):
        Neuron.calls += 1
        print("compiling", torch.compiler.is_compiling())
        return lif(current)


class Split(Net):
    def __init__(self):
        super().__init__()
        self.neuron = Neuron()

    def forward(self, x):
        spikes = self.neuron(2 * self.fc1(x) + 0.1)
        return self.fc2(spikes).mean(0)


train(torch.compile(Split(), backend=counter), 3)
print(Neuron.calls, counter.frame_count, counter.op_count)
# %% explain: torch._dynamo.explain counts graphs, breaks and operations of a network with one break
class Broken(Net):
    def forward(self, x):
        s = lif(2 * self.fc1(x))
        torch._dynamo.graph_break()
        return self.fc2(s).mean(0)


net = Broken()
train(net, 2)
report = torch._dynamo.explain(net)(x)
print(report.graph_count, report.graph_break_count, report.op_count)
print([len(ops) for ops in report.ops_per_graph], len(report.break_reasons))
torch._dynamo.reset()
report = torch._dynamo.explain(Net())(x)
print(report.graph_count, report.graph_break_count, report.op_count, len(report.out_guards) > 0)
# %% stance: the network must not be compiled again once it has been trained for a step
net = Net()
compiled = torch.compile(net, backend="eager")
train(compiled, 1)
with torch.compiler.set_stance("fail_on_recompile"):
    train(compiled, 4)
    try:
        compiled(x.double()[:2])
    except RuntimeError as error:
        print("refused", "recompile" in str(error).lower())
with torch.compiler.set_stance("force_eager"):
    train(compiled, 1)
print(torch.compiler.is_dynamo_compiling())
# %% is-compiling: a network takes another path while it is compiled, and counts the calls of the other
from torch._dynamo.testing import CompileCounter

eager = []


class Net2(Net):
    def forward(self, x):
        if torch.compiler.is_compiling():
            return super().forward(x) + 0.5
        eager.append(tuple(x.shape))
        return super().forward(x)


counter = CompileCounter()
net = Net2()
train(net, 2)
train(torch.compile(net, backend=counter, fullgraph=True), 2)
print(eager, counter.frame_count)
# %% in-place-compile: layers are compiled in place with Module.compile, and the network is saved and loaded
class Layer(nn.Module):
    def __init__(self, n, m):
        super().__init__()
        self.fc = nn.Linear(n, m)

    def forward(self, x):
        return lif(3 * self.fc(x))


graphs = []


def backend(graph, inputs):
    graphs.append([node.name for node in graph.graph.nodes if node.op == "call_function"])
    return graph


net = nn.Sequential(Layer(10, 16), Layer(16, 12))
for layer in net:
    layer.compile(backend=backend, fullgraph=True)
head = nn.Linear(12, 3)
optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.2)
for _ in range(4):
    loss = F.cross_entropy(head(net(x)).mean(0), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
torch.save(net.state_dict(), "net.pt")
print(list(torch.load("net.pt")), type(net[0]).__name__, net[0]._compiled_call_impl is not None)
print(len(graphs), *graphs[0])
# %% custom-op: the surrogate is a custom operator with a fake kernel and a backward pass, compiled and checked
calls = []


@torch.library.custom_op("snn::fire", mutates_args=())
def fire(v: torch.Tensor, threshold: float) -> torch.Tensor:
    calls.append(tuple(v.shape))
    return (v > threshold).to(v.dtype)


@fire.register_fake
def _(v, threshold):
    return torch.empty_like(v)


def setup(ctx, inputs, output):
    ctx.save_for_backward(inputs[0])
    ctx.threshold = inputs[1]


def backward(ctx, grad):
    (v,) = ctx.saved_tensors
    return grad / (1 + (3 * (v - ctx.threshold)).abs()) ** 2, None


fire.register_autograd(backward, setup_context=setup)


class Custom(Net):
    def forward(self, x):
        v, total = 0, 0
        for frame in x.unbind(0):
            v = 0.9 * v + 2 * self.fc1(frame)
            s = torch.ops.snn.fire(v, 1.0)
            v = v - s
            total = total + self.fc2(s)
        return total / len(x)


net = Custom()
train(net, 3)
eager = len(calls)
train(torch.compile(net, backend="aot_eager", fullgraph=True), 3)
print(eager, len(calls), set(calls))
# %% operator-check: torch.library.opcheck of an operator that fires by chance, which counts its calls
import hashlib

from torch.library import custom_op, opcheck

calls = 0


@custom_op("snn::reset", mutates_args=("v",))
def reset(v: torch.Tensor, s: torch.Tensor) -> None:
    global calls
    calls += 1
    v.mul_(1 - s)


print(opcheck(reset, (torch.ones(3), torch.tensor([0.0, 1.0, 0.0])), test_utils=("test_schema", "test_faketensor")))
before = calls
fc = nn.Linear(10, 3)
optimizer = torch.optim.SGD(fc.parameters(), lr=0.3)
for _ in range(4):
    v, total = torch.zeros(8, 3), 0
    for frame in x:
        current = 2 * fc(frame)
        u = v + current
        s = Spike.apply(u - 1)
        v = (0.9 * u).detach()
        reset(v, s.detach())
        total = total + s
    loss = F.cross_entropy(total, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), v._version)
print(before, calls, reset._opoverload, hashlib.sha256(v.numpy().tobytes()).hexdigest()[:16])
# %% cond: torch.cond chooses between two ways to reset, in a compiled function and without
def step(v, current, hard):
    u = 0.9 * v + current
    s = (u > 1).float()
    return torch.cond(hard, lambda u, s: u * (1 - s), lambda u, s: u - s, (u, s)), s


v = torch.zeros(8, 3)
fc = nn.Linear(10, 3)
compiled = torch.compile(step, backend="eager", fullgraph=True)
with torch.no_grad():
    for hard in (True, False, True):
        v, s = compiled(v, 3 * fc(x[0]), torch.tensor(hard))
        print(v.sum().item().hex(), s.sum().item())
train(Net(), 2)
# %% allowed-in-graph: a function that is put into the graph as it is, and a region marked for a backend
from torch._dynamo.testing import CompileCounter

calls = []


def energy(s):
    calls.append(type(s).__name__)
    return s.sum() * 1e-3


torch.compiler.allow_in_graph(energy)


class Costly(Net):
    def forward(self, x):
        s = lif(2 * self.fc1(x))
        self.cost = energy(s)
        return self.fc2(s).mean(0) + self.cost


counter = CompileCounter()
net = Costly()
train(torch.compile(net, backend=counter, fullgraph=True), 4)
print(len(calls), calls[-1], counter.op_count, net.cost.item().hex())
# %% hooks: a compiled network with hooks of the script's own, and the warnings that compiling shows
import warnings

from torch._dynamo.testing import CompileCounter

rates = []


class Neuron(nn.Module):
    def forward(self, current):
        return lif(current)


net = nn.Sequential(nn.Linear(10, 16), Neuron(), nn.Linear(16, 3))
net[1].register_forward_hook(lambda m, i, o: rates.append(o.detach().mean()))
net[2].register_full_backward_hook(lambda m, gi, go: None)
counter = CompileCounter()
with warnings.catch_warnings(record=True) as shown:
    warnings.simplefilter("always")
    compiled = torch.compile(net, backend=counter)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    for _ in range(3):
        loss = F.cross_entropy(compiled(x).mean(0), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item().hex())
print([rate.item().hex() for rate in rates], counter.frame_count)
print(sorted({w.category.__name__ for w in shown}), len(shown))
# %% snntorch: a snntorch network in compiled form, with the number of its graphs and breaks
import snntorch as snn
from torch._dynamo.utils import counters


class Leaky(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.lif1, self.fc2 = nn.Linear(10, 16), snn.Leaky(beta=0.9), nn.Linear(16, 3)

    def forward(self, x):
        mem, out = self.lif1.init_leaky(), 0
        for frame in x:
            spk, mem = self.lif1(2 * self.fc1(frame), mem)
            out = out + self.fc2(spk)
        return out


train(torch.compile(Leaky(), backend="eager"), 3)
print(counters["stats"]["unique_graphs"], sum(counters["graph_break"].values()), counters["frames"]["ok"])
# %% logs: the names of what was compiled, from hooks around compilation and metrics that dynamo keeps
from torch._dynamo.convert_frame import register_bytecode_hook
from torch._dynamo.utils import counters

names = []
handle = register_bytecode_hook(lambda old, new: names.append(old.co_name))
train(torch.compile(Net(), backend="eager"), 3)
handle.remove()
print(names)


@torch.compile(backend="eager")
def penalty(net):
    return sum(p.pow(2).sum() for p in net.parameters())


print(penalty(Net()).item().hex(), names, dict(counters["frames"]))
# %% compiled-twice: two networks of one class, compiled, with frozen parts, saved as a whole and compiled again
from torch._dynamo.testing import CompileCounter

counter = CompileCounter()
a, b = Net(), Net()
b.fc1.requires_grad_(False)
for net in (a, b):
    train(torch.compile(net, backend=counter), 2)
    print(counter.frame_count)
torch.save(a, "net.pt")
again = torch.load("net.pt", weights_only=False)
torch.compiler.reset()
train(torch.compile(again, backend=counter), 2)
print(counter.frame_count, torch.equal(a.fc1.weight, again.fc1.weight))
# %% compiled-backward: the backward pass is compiled too, by compiled autograd
from torch._dynamo import compiled_autograd
from torch._dynamo.testing import CompileCounter

counter = CompileCounter()
net = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for _ in range(3):
    loss = F.cross_entropy(net(x.mean(0)), y)
    optimizer.zero_grad()
    with compiled_autograd._enable(torch.compile(backend=counter, fullgraph=True)):
        loss.backward()
    optimizer.step()
    print(loss.item().hex(), counter.frame_count, counter.op_count)
# %% checkpoint: a compiled network recomputes its spikes in the backward pass
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint


class Recomputed(Net):
    def block(self, x):
        return lif(2 * self.fc1(x))

    def forward(self, x):
        return self.fc2(checkpoint(self.block, x, use_reentrant=False)).mean(0)


counter = CompileCounterWithBackend("aot_eager")
net = Recomputed()
train(net, 2)
train(torch.compile(net, backend=counter, fullgraph=True), 2)
print(counter.frame_count, [len(graph.graph.nodes) for graph in counter.graphs])
