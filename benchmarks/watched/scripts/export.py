import torch
import torch.nn.functional as F
from torch import nn

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


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(10, 16), nn.Linear(16, 3)

    def forward(self, x):
        current = 2 * self.fc1(x)
        v, out = torch.zeros_like(current[0]), 0
        for i in current.unbind(0):
            v = 0.9 * v + i
            s = Spike.apply(v - 1)
            v = v - s.detach()
            out = out + self.fc2(s)
        return out / x.shape[0]


def train(net, steps=4):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    for _ in range(steps):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item().hex())


# %% exported: a trained spiking network is exported, its operations are counted, and it computes the same
from collections import Counter

net = Net()
train(net)
program = torch.export.export(net.eval(), (x,))
print(len(program.graph.nodes), sorted(Counter(str(n.target) for n in program.graph.nodes if n.op == "call_function").items()))
print([spec.kind.name for spec in program.graph_signature.input_specs], program.graph_signature.user_outputs)
with torch.no_grad():
    print(torch.equal(program.module()(x), net(x)), list(program.state_dict))
# %% before-training: a network is exported before it is trained, and again between steps, strictly and not
net = Net()
counts = []
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for step in range(4):
    loss = F.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        program = torch.export.export(net, (x,), strict=bool(step % 2))
    counts.append(len(program.graph.nodes))
    print(loss.item().hex(), program.module()(x).sum().item().hex())
print(counts, net.training)
# %% dynamic: a network is exported for batches of any size, between limits, and refuses others
from torch.export import Dim

net = Net()
train(net, 3)
batch = Dim("batch", min=2, max=32)
program = torch.export.export(net, (x,), dynamic_shapes={"x": {1: batch}})
module = program.module()
with torch.no_grad():
    for size in (12, 5, 2):
        print(size, tuple(module(x[:, :size]).shape), module(x[:, :size]).sum().item().hex())
    for wrong in (x[:2], torch.zeros(3, 40, 10)):
        try:
            module(wrong)
        except (RuntimeError, AssertionError) as error:
            print(type(error).__name__)
print([str(limits) for limits in program.range_constraints.values()])
# %% saved: an exported network goes through a buffer, with extra files, and is trained on from there
import io

net = Net()
train(net, 2)
program = torch.export.export(net, (x,))
buffer = io.BytesIO()
torch.export.save(program, buffer, extra_files={"note.txt": "three classes"})
extra = {"note.txt": ""}
buffer.seek(0)
loaded = torch.export.load(buffer, extra_files=extra)
print(extra, len(loaded.graph.nodes) == len(program.graph.nodes), list(loaded.state_dict))
module = loaded.module()
train(module, 3)
print(type(module).__name__, module.fc2.weight.grad.norm().item().hex(), module.fc1.weight.grad)
try:
    module.eval()
except NotImplementedError as error:
    print(str(error)[:30])
# %% decomposed: an exported network's operations are decomposed and its nodes counted, with a state that it mutates
class Counting(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("batches", torch.zeros(()))
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        self.batches.add_(1)
        return F.softmax(self.norm(super().forward(x)), -1)


net = Counting()
train(net, 3)
program = torch.export.export(net.eval(), (x,))
core = program.run_decompositions()
print(len(program.graph.nodes), len(core.graph.nodes), "softmax" in str(core.graph), core.graph_signature.buffers_to_mutate)
print(net.batches.item(), core.module()(x).sum().item().hex(), net.batches.item(), core.state_dict["batches"].item())
print(sorted({str(n.target) for n in core.graph.nodes if n.op == "call_function"}))
# %% unflattened: an exported network gets its modules back by unflatten, and one of them is swapped
from torch.export.unflatten import unflatten


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = Net(), nn.Sequential(nn.Tanh(), nn.Linear(3, 3))

    def forward(self, x):
        return self.head(self.body(x))


net = Nested()
train(net, 3)
again = unflatten(torch.export.export(net, (x,)))
print([name for name, _ in again.named_modules()], [type(m).__name__ for m in again.children()])
with torch.no_grad():
    print(torch.equal(again(x), net(x)))
again.set_submodule("head.1", nn.Linear(3, 3))
train(again, 3)
# %% own-operator: the surrogate is an operator of the script's own, which stays in the exported graph
calls = []


@torch.library.custom_op("snn::fire", mutates_args=())
def fire(v: torch.Tensor) -> torch.Tensor:
    calls.append(tuple(v.shape))
    return (v > 0).to(v.dtype)


@fire.register_fake
def _(v):
    return torch.empty_like(v)


fire.register_autograd(
    lambda ctx, grad: grad * torch.exp(-ctx.saved_tensors[0].abs()),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
)


class Operator(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(10, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.fc2(fire(2 * self.fc1(x) - 0.5)).mean(0)


net = Operator()
train(net, 4)
before = len(calls)
program = torch.export.export(net, (x,))
print(before, len(calls), [str(n.target) for n in program.graph.nodes if "snn" in str(n.target)])
print(torch.equal(program.module()(x), net(x)), len(calls))
# %% onnx-traced: a trained network is written as ONNX by tracing, and read by onnx and onnxruntime
import warnings

import onnx
import onnxruntime

net = Net()
train(net, 3)
with warnings.catch_warnings(record=True) as shown:
    warnings.simplefilter("always")
    torch.onnx.export(net.eval(), (x,), "net.onnx", dynamo=False, input_names=["frames"], output_names=["out"])
print(sorted({w.category.__name__ for w in shown}))
model = onnx.load("net.onnx")
print(len(model.graph.node), sorted({n.op_type for n in model.graph.node}), [i.name for i in model.graph.input])
session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
out = torch.from_numpy(session.run(None, {"frames": x.numpy()})[0])
print(torch.allclose(out, net(x), atol=1e-5), net.training)
train(net, 1)
# %% onnx-exported: a network of smooth neurons is exported to ONNX through torch.export, and run as a program
import io
from contextlib import redirect_stderr, redirect_stdout

net = nn.Sequential(nn.Linear(10, 16), nn.Sigmoid(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
for _ in range(3):
    loss = F.cross_entropy(net(x).mean(0), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
said = io.StringIO()
with redirect_stdout(said), redirect_stderr(said):
    program = torch.onnx.export(net.eval(), (x,), dynamo=True, verbose=False)
program.save("net.onnx")
print(len(program.model.graph), sorted({node.op_type for node in program.model.graph}))
print(torch.allclose(program(x)[0], net(x), atol=1e-5))
# %% snntorch-exported: snntorch's neuron with its state handed in and out is exported, one step at a time
import snntorch as snn


class Step(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.lif1, self.fc2 = nn.Linear(10, 16), snn.Leaky(beta=0.9), nn.Linear(16, 3)

    def forward(self, frame, mem):
        spk, mem = self.lif1(2 * self.fc1(frame), mem)
        return self.fc2(spk), mem


net = Step()
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for _ in range(4):
    mem, out = torch.zeros(12, 16), 0
    for frame in x:
        step, mem = net(frame, mem)
        out = out + step
    loss = F.cross_entropy(out, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
with torch.no_grad():
    program = torch.export.export(net.eval(), (x[0], torch.zeros(12, 16)))
    a, b = program.module()(x[0], mem.detach()), net(x[0], mem.detach())
print(len(program.graph.nodes), torch.equal(a[0], b[0]), torch.equal(a[1], b[1]), program.graph_signature.user_outputs)
