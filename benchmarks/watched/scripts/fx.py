import torch
import torch.nn.functional as F
from torch import fx, nn

torch.manual_seed(0)
x = (torch.rand(3, 12, 10) < 0.4).float()  # (T, B, features)
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


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.lif, self.fc2 = nn.Linear(10, 16), LIF(), nn.Linear(16, 3)

    def forward(self, x):
        return self.fc2(self.lif(F.relu(self.fc1(x)))).mean(0)


class Spiking(fx.Tracer):
    def is_leaf_module(self, module, name):
        return isinstance(module, LIF) or super().is_leaf_module(module, name)


def trace(net):
    return fx.GraphModule(net, Spiking().trace(net), type(net).__name__)


def train(net, steps=4, frames=x):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    for _ in range(steps):
        loss = F.cross_entropy(net(frames), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item().hex())


# %% targets: a network with functions of torch is traced, and the nodes' targets are compared with these functions
class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(10, 16), nn.Linear(16, 3)

    def forward(self, x, y):
        h = F.dropout(F.relu(self.fc1(x)), 0.1, self.training)
        out = self.fc2(h.mean(dim=0))
        return F.cross_entropy(out, y) + 0.1 * F.mse_loss(out.softmax(-1), F.one_hot(y, 3).float()), torch.sigmoid(out)


net = Functional()
graph = fx.symbolic_trace(net).graph
known = {F.dropout: "dropout", F.cross_entropy: "cross_entropy", F.mse_loss: "mse_loss", F.relu: "relu", F.one_hot: "one_hot"}
for node in graph.nodes:
    name = known.get(node.target, "-") if node.op == "call_function" else "-"
    print(node.op, node.name, name, node.target if isinstance(node.target, str) else node.target.__module__)
traced = fx.GraphModule(net, graph)
optimizer = torch.optim.SGD(traced.parameters(), lr=0.3)
for _ in range(4):
    loss, _ = traced(x, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
# %% code: the code of a traced network with spiking neurons as leaves is printed and trained
import hashlib

net = trace(Net())
print(net.code.strip(), len(net.graph.nodes), hashlib.sha256(net.code.encode()).hexdigest()[:16])
train(net, 5)
print(type(net).__name__, type(net).__mro__[1].__name__, [name for name, _ in net.named_modules()])
print(fx.symbolic_trace(nn.Sequential(nn.Linear(3, 2), nn.ReLU())).graph)
# %% unrolled: a loop over time is unrolled by tracing, with a surrogate wrapped as a leaf function
@fx.wrap
def fire(v):
    return Spike.apply(v - 1)


class Unrolled(nn.Module):
    def __init__(self, steps):
        super().__init__()
        self.fc1, self.fc2, self.steps = nn.Linear(10, 16), nn.Linear(16, 3), steps

    def forward(self, x):
        v = out = 0
        for t in range(self.steps):
            v = 0.9 * v + 2 * self.fc1(x[t])
            s = fire(v)
            v = v - s
            out = out + self.fc2(s)
        return out / self.steps


for steps in (1, 3):
    net = fx.symbolic_trace(Unrolled(steps))
    print(steps, len(net.graph.nodes), sum(node.target is fire for node in net.graph.nodes))
train(net, 5)
net.graph.eliminate_dead_code()
net.recompile()
print(net.graph.lint(), len(net.graph.nodes))
# %% interpreter: an interpreter runs a network node by node and writes down the shape and the rate of each
class Recorder(fx.Interpreter):
    def __init__(self, module):
        super().__init__(module)
        self.rows = []

    def run_node(self, node):
        result = super().run_node(node)
        if isinstance(result, torch.Tensor):
            self.rows.append((node.name, tuple(result.shape), result.float().mean().item().hex()))
        return result

    def call_module(self, target, args, kwargs):
        self.rows.append(("module", target))
        return super().call_module(target, args, kwargs)


net = trace(Net())
optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
recorder = Recorder(net)
for _ in range(3):
    loss = F.cross_entropy(recorder.run(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
for row in recorder.rows[-9:]:
    print(*row)
# %% transformer: a Transformer turns rectifiers into spikes and doubles what enters them
class ToSpikes(fx.Transformer):
    replaced = 0

    def call_function(self, target, args, kwargs):
        if target is F.relu:
            ToSpikes.replaced += 1
            return super().call_function(torch.mul, (super().call_module("lif", args, {}), 2.0), {})
        return super().call_function(target, args, kwargs)


net = trace(Net())
converted = ToSpikes(net).transform()
print(ToSpikes.replaced, len(net.graph.nodes), len(converted.graph.nodes), [n.op for n in converted.graph.nodes])
train(converted, 5)
print(net.fc1.weight is converted.fc1.weight)
# %% replaced-pattern: a pattern of operations is replaced in a graph, which is counted before and after
class Soft(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(10, 16), nn.Linear(16, 3)

    def forward(self, x):
        h = torch.sigmoid(self.fc1(x)) * 2.0
        return torch.sigmoid(self.fc2(h.mean(0))) * 2.0


def pattern(v):
    return torch.sigmoid(v) * 2.0


def replacement(v):
    return torch.clamp(v, 0.0, 1.0) + 0.1 * v


net = fx.symbolic_trace(Soft())
train(net, 2)
matches = fx.replace_pattern(net, pattern, replacement)
print(len(matches), matches[0].anchor.name, [n.name for n in net.graph.nodes], sorted(len(m.nodes_map) for m in matches))
train(net, 4)
# %% rewritten: nodes are inserted, replaced and erased by hand, with modules that are put in and left out
net = trace(Net())
net.add_submodule("dropout", nn.Dropout(0.2))
for node in list(net.graph.nodes):
    if node.target is F.relu:
        with net.graph.inserting_after(node):
            clamped = net.graph.call_function(torch.clamp, (node.args[0],), {"min": -0.5})
            node.replace_all_uses_with(clamped)
        net.graph.erase_node(node)
    elif node.op == "call_module" and node.target == "lif":
        with net.graph.inserting_after(node):
            dropped = net.graph.call_module("dropout", (node,))
        node.replace_all_uses_with(dropped, delete_user_cb=lambda user: user is not dropped)
        node.meta["rate"] = 0.5
net.graph.lint()
net.recompile()
print([(n.op, n.name) for n in net.graph.nodes], net.delete_all_unused_submodules())
train(net, 5)
print(torch.rand(1).item().hex())
# %% make-fx: forward pass, loss and gradients are traced by make_fx into one graph of aten operations
from collections import Counter

from torch.func import functional_call, grad_and_value
from torch.fx.experimental.proxy_tensor import make_fx

net = nn.Sequential(nn.Linear(10, 8), nn.Sigmoid(), nn.Linear(8, 3))
parameters = {name: p.detach() for name, p in net.named_parameters()}
step = grad_and_value(lambda p, x, y: F.cross_entropy(functional_call(net, p, (x,)), y))
graph = make_fx(step)(parameters, x[0], y)
print(len(graph.graph.nodes), sorted(Counter(str(n.target) for n in graph.graph.nodes if n.op == "call_function").items()))
for _ in range(4):
    gradients, loss = graph(parameters, x[0], y)
    parameters = {name: p - 0.5 * gradients[name] for name, p in parameters.items()}
    print(loss.item().hex())
train(net, 2, x[0])
# %% make-fx-spiking: a spiking network with its backward pass, traced with real and with symbolic shapes
from torch.fx.experimental.proxy_tensor import make_fx

net = Net()


def gradients(x, y):
    loss = F.cross_entropy(net(x), y)
    return loss.detach(), *torch.autograd.grad(loss, list(net.parameters()))


for mode in ("real", "fake", "symbolic"):
    graph = make_fx(gradients, tracing_mode=mode, _allow_non_fake_inputs=True)(x, y)
    print(mode, len(graph.graph.nodes), graph(x, y)[0].item().hex(), [n.target for n in graph.graph.nodes if n.op == "get_attr"][:2])
train(net, 4)
print(gradients(x, y)[1].norm().item().hex())
# %% shapes: shapes are propagated through a graph, operations counted with fake tensors, and the nodes' metadata printed
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.passes.shape_prop import ShapeProp
from torch.utils.flop_counter import FlopCounterMode

net = trace(Net())
ShapeProp(net).propagate(x)
for node in net.graph.nodes:
    print(node.name, tuple(node.meta["tensor_meta"].shape), node.meta["tensor_meta"].dtype, len(node.users))
counter = FlopCounterMode(display=False)
with counter:
    F.cross_entropy(net(x), y).backward()
print(counter.get_total_flops(), sorted(counter.flop_counts))
with FakeTensorMode(allow_non_fake_inputs=True) as mode:
    out = net(mode.from_tensor(x))
print(type(out).__name__, tuple(out.shape))
net.zero_grad()
train(net, 3)
# %% split: a network is split in two parts by split_module, which are trained apart and together
from torch.fx.passes.split_module import split_module

parent = Net()
net = trace(parent)
parts = split_module(net, parent, lambda node: 0 if node.name in ("fc1", "relu", "lif") else 1)
print([name for name, _ in parts.named_children()], len(parts.graph.nodes), [len(m.graph.nodes) for m in parts.children()])
train(parts, 3)
spikes = parts.submod_0(x).detach()
optimizer = torch.optim.Adam(parts.submod_1.parameters(), lr=0.02)
for _ in range(3):
    loss = F.cross_entropy(parts.submod_1(spikes), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
print(torch.equal(parent.fc2.weight, parts.submod_1.fc2.weight), parts.code.count("submod"))
# %% saved: a graph module is copied, pickled and saved, with attributes and metadata that it keeps
import copy
import pickle

net = trace(Net())
net.meta["made"] = "by hand"
train(net, 2)
twin = copy.deepcopy(net)
print(twin.meta["made"], torch.equal(twin(x), net(x)), len(twin.graph.nodes), type(twin).__name__)
data = pickle.dumps(fx.symbolic_trace(nn.Sequential(nn.Linear(4, 2), nn.Tanh())))
again = pickle.loads(data)
print(len(data), len(again.graph.nodes), tuple(again(torch.ones(1, 4)).shape))
torch.save(net, "net.pt")
loaded = torch.load("net.pt", weights_only=False)
train(loaded, 3)
print(list(loaded.state_dict()), loaded.code == net.code)
# %% fused: convolutions and normalisations are fused for evaluation, and features are taken at nodes' names
from torch.fx.experimental.optimization import fuse, remove_dropout

net = nn.Sequential(nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(48, 3))
frames = x.transpose(0, 1).contiguous()
train(net, 4, frames)
net.eval()
fused = remove_dropout(fuse(net))
with torch.no_grad():
    print(torch.allclose(fused(frames), net(frames), atol=1e-5), [type(m).__name__ for m in fused.children()])
traced = fx.symbolic_trace(net)
names = [node.name for node in traced.graph.nodes]
for node in traced.graph.nodes:
    if node.op == "output":
        rectified = next(n for n in traced.graph.nodes if n.target == "2")
        node.args = ({"features": rectified, "out": node.args[0]},)
traced.recompile()
out = traced(frames)
print(names, sorted(out), out["features"].sum().item().hex(), traced.training)
# %% concrete: a network with branches is traced for given arguments, and refused without them
class Branched(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.lif, self.fc2 = nn.Linear(10, 16), LIF(), nn.Linear(16, 3)

    def forward(self, x, spiking=True, noise=None):
        h = self.fc1(x)
        h = self.lif(h) if spiking else torch.tanh(h)
        if noise is not None:
            h = h + noise
        return self.fc2(h).mean(0)


net = Branched()
try:
    fx.symbolic_trace(net)
except (TypeError, fx.proxy.TraceError) as error:
    print(type(error).__name__)
for arguments in ({"spiking": True, "noise": None}, {"spiking": False}):
    graph = Spiking().trace(net, concrete_args=arguments)
    print(len(graph.nodes), [n.name for n in graph.nodes])
traced = fx.GraphModule(net, Spiking().trace(net, concrete_args={"spiking": True, "noise": None}))
optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
for _ in range(4):
    loss = F.cross_entropy(traced(x, True, None), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
# %% spikingjelly-nodes: a network of rectifiers is traced, its rectifiers become spikingjelly's neurons in the graph
from spikingjelly.activation_based import functional, neuron

net = fx.symbolic_trace(nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)))
for i, node in enumerate(list(net.graph.nodes)):
    if node.op == "call_module" and isinstance(net.get_submodule(node.target), nn.ReLU):
        net.add_submodule(f"neuron{i}", neuron.IFNode(v_threshold=0.5, step_mode="m"))
        with net.graph.inserting_after(node):
            node.replace_all_uses_with(net.graph.call_module(f"neuron{i}", node.args))
        net.graph.erase_node(node)
net.delete_all_unused_submodules()
net.recompile()
print([str(n.target) for n in net.graph.nodes])
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for _ in range(4):
    loss = F.cross_entropy(net(2 * x).mean(0), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    functional.reset_net(net)
    print(loss.item().hex())
