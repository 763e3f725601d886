import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = (torch.rand(5, 16, 20) < 0.3).float()  # (T, B, features)
y = torch.randint(0, 4, (16,))


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad / (1 + (3 * v).abs()) ** 2


def lif(current, spike=Spike.apply, beta=0.9):
    v = torch.zeros_like(current[0])
    spikes = []
    for i in current:
        v = beta * v + i
        s = spike(v - 1.0)
        v = v - s
        spikes.append(s)
    return torch.stack(spikes)


class Net(nn.Module):
    def __init__(self, spike=Spike.apply):
        super().__init__()
        self.spike = spike
        self.fc1 = nn.Linear(20, 32)
        self.fc2 = nn.Linear(32, 4)

    def forward(self, x):
        return self.fc2(lif(2 * self.fc1(x), self.spike)).mean(0)


def train(net, steps=4, lr=0.2):
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    for _ in range(steps):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item().hex())


# %% random-forward: neurons fire by chance, so that the surrogate draws random numbers in its forward pass
import hashlib


class StochasticSpike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        p = torch.sigmoid(4 * v)
        ctx.save_for_backward(p)
        return torch.bernoulli(p)

    @staticmethod
    def backward(ctx, grad):
        (p,) = ctx.saved_tensors
        return grad * 4 * p * (1 - p)


train(Net(StochasticSpike.apply), steps=6)
print(hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest())
# %% random-backward: the surrogate adds noise to the gradient, with torch's and with python's generator
import random

random.seed(1)


class NoisySpike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 0).to(v.dtype)

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        width = random.uniform(0.5, 1.5)
        return grad * (v.abs() < width) + 1e-3 * torch.randn_like(grad)


net = Net(NoisySpike.apply)
train(net, steps=6)
print(random.random().hex(), torch.rand(1).item().hex(), net.fc1.weight.grad.sum().item().hex())
# %% counters: the surrogate counts its forward and backward passes and the spikes that it lets through
class CountedSpike(Spike):
    forwards = backwards = spikes = 0

    @staticmethod
    def forward(ctx, v):
        CountedSpike.forwards += 1
        s = Spike.forward(ctx, v)
        CountedSpike.spikes += int(s.sum())
        return s

    @staticmethod
    def backward(ctx, grad):
        CountedSpike.backwards += 1
        return Spike.backward(ctx, grad)


train(Net(CountedSpike.apply), steps=5)
print(CountedSpike.forwards, CountedSpike.backwards, CountedSpike.spikes)
# %% once-only: a surrogate that accepts one shape, and whose backward pass must run once for each forward pass
class StrictSpike(torch.autograd.Function):
    open = 0

    @staticmethod
    def forward(ctx, v):
        if v.shape != (16, 32):
            raise ValueError(f"expected (16, 32), got {tuple(v.shape)}")
        if not v.any():
            raise ValueError("potentials are all zero")
        StrictSpike.open += 1
        ctx.v = v.detach()
        return (v > 0).float()

    @staticmethod
    def backward(ctx, grad):
        v = ctx.v
        del ctx.v
        StrictSpike.open -= 1
        if StrictSpike.open < 0:
            raise RuntimeError("more backward than forward passes")
        return grad * torch.exp(-v.abs())


train(Net(StrictSpike.apply), steps=4)
print(StrictSpike.open)
# %% prints: a surrogate that prints the gradient it receives, at the first and at the last timestep
calls = 0


class LoudSpike(Spike):
    @staticmethod
    def backward(ctx, grad):
        global calls
        calls += 1
        if calls % 5 in (0, 1):
            print("timestep", 5 - (calls - 1) % 5, grad.abs().sum().item().hex())
        return Spike.backward(ctx, grad)


train(Net(LoudSpike.apply), steps=3)
# %% several-outputs: a neuron as one function with two outputs and setup_context, without materialised gradients
class Step(torch.autograd.Function):
    missing = 0

    @staticmethod
    def forward(v, current, beta):
        u = beta * v + current
        s = (u > 1).to(u.dtype)
        return s, u - s, u

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, _, u = output
        ctx.beta = inputs[2]
        ctx.mark_non_differentiable(u)
        ctx.save_for_backward(u)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, grad_s, grad_v, _):
        (u,) = ctx.saved_tensors
        total = torch.zeros_like(u)
        if grad_v is not None:
            total = total + grad_v
        else:
            Step.missing += 1
        if grad_s is not None:
            total = total + grad_s / (1 + (u - 1) ** 2)
        return ctx.beta * total, total, None


class Two(Net):
    def forward(self, x):
        current = 2 * self.fc1(x)
        v = torch.zeros_like(current[0])
        out = 0
        for i in current:
            s, v, u = Step.apply(v, i, 0.8)
            out = out + self.fc2(s)
        print(u.requires_grad, s.requires_grad)
        return out / len(current)


train(Two(), steps=4)
print(Step.missing)
# %% in-place: potentials that are reset in place, with mark_dirty, and the versions of the tensor
class Reset(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, s):
        ctx.save_for_backward(s)
        ctx.mark_dirty(v)
        return v.mul_(1 - s)

    @staticmethod
    def backward(ctx, grad):
        (s,) = ctx.saved_tensors
        return grad * (1 - s), None


fc = nn.Linear(20, 8)
optimizer = torch.optim.Adam(fc.parameters(), lr=0.05)
for _ in range(5):
    v = torch.zeros(16, 8)
    total = 0
    for t in range(5):
        v = v * 0.9 + 2 * fc(x[t])
        s = Spike.apply(v - 1)
        v = Reset.apply(v, s.detach())
        total = total + s
    loss = F.cross_entropy(total, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), v._version, v.grad_fn.name())
# %% own-vmap: a surrogate with its own vmap rule, for the gradient of each sample
from torch.func import functional_call, grad, vmap


class BatchedSpike(torch.autograd.Function):
    batched = []

    @staticmethod
    def forward(v):
        return (v > 0).float()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        return g / (1 + (3 * v).abs()) ** 2

    @staticmethod
    def vmap(info, in_dims, v):
        BatchedSpike.batched.append((info.batch_size, in_dims[0], tuple(v.shape)))
        return BatchedSpike.apply(v), in_dims[0]


net = Net(BatchedSpike.apply)
parameters = {name: p.detach() for name, p in net.named_parameters()}


def loss_of_sample(parameters, sample, label):
    return F.cross_entropy(functional_call(net, parameters, (sample.unsqueeze(1),)), label.unsqueeze(0))


gradients = vmap(grad(loss_of_sample), in_dims=(None, 1, 0))(parameters, x, y)
for name, g in gradients.items():
    print(name, tuple(g.shape), g.norm().item().hex())
print(len(BatchedSpike.batched), BatchedSpike.batched[0])
# %% generated-vmap: a surrogate with generate_vmap_rule, trained by the clipped gradients of single samples
from torch.func import functional_call, grad, vmap


class GeneratedSpike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(v):
        return (v > 0).float()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        return g * torch.clamp(1 - v.abs(), min=0)


net = Net(GeneratedSpike.apply)


def loss_of_sample(parameters, sample, label):
    loss = F.cross_entropy(functional_call(net, parameters, (sample.unsqueeze(1),)), label.unsqueeze(0))
    return loss, loss.detach()


each = vmap(grad(loss_of_sample, has_aux=True), in_dims=(None, 1, 0))
for _ in range(4):
    gradients, losses = each(dict(net.named_parameters()), x, y)
    norm = torch.sqrt(sum(g.flatten(1).pow(2).sum(1) for g in gradients.values()))
    with torch.no_grad():
        for name, p in net.named_parameters():
            factor = (0.5 / norm).clamp(max=1).view(-1, *[1] * p.dim())
            p -= 0.5 * (gradients[name] * factor).mean(0)
    print(losses.mean().item().hex(), norm.max().item().hex())
# %% once-differentiable: a surrogate that refuses a second derivative
from torch.autograd.function import once_differentiable


class FirstOrder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        print("grad mode", torch.is_grad_enabled(), v.requires_grad)
        return grad * torch.exp(-v.abs())


v = torch.randn(6, requires_grad=True)
(g,) = torch.autograd.grad((FirstOrder.apply(v) * v).sum(), v, create_graph=True)
try:
    g.sum().backward()
except RuntimeError as error:
    print(str(error).splitlines()[0])
train(Net(FirstOrder.apply), steps=2)
# %% double-backward: a penalty on the gradient at the input, through the surrogate
net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
for _ in range(5):
    frames = x.clone().requires_grad_()
    loss = F.cross_entropy(net(frames), y)
    (g,) = torch.autograd.grad(loss, frames, create_graph=True)
    penalty = g.pow(2).sum()
    optimizer.zero_grad()
    (loss + 10 * penalty).backward()
    optimizer.step()
    print(loss.item().hex(), penalty.item().hex(), g.grad_fn is not None)
# %% forward-mode: dual numbers go through a surrogate that has a jvp
import torch.autograd.forward_ad as forward_ad


class DualSpike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_forward(v)
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad / (1 + v**2)

    @staticmethod
    def jvp(ctx, tangent):
        (v,) = ctx.saved_tensors
        return tangent / (1 + v**2)


net = Net(DualSpike.apply)
direction = torch.randn_like(x)
with forward_ad.dual_level():
    out = net(forward_ad.make_dual(x, direction))
    loss = F.cross_entropy(out, y)
    primal, tangent = forward_ad.unpack_dual(loss)
    print(primal.item().hex(), tangent.item().hex(), forward_ad.unpack_dual(out).tangent.shape)
frames = x.clone().requires_grad_()
(g,) = torch.autograd.grad(F.cross_entropy(net(frames), y), frames)
print(abs((g * direction).sum().item() - tangent.item()) < 1e-5)
# %% gradcheck: a smooth neuron is checked by gradcheck and gradgradcheck before it is trained
from torch.autograd import gradcheck, gradgradcheck


class Soft(torch.autograd.Function):
    calls = 0

    @staticmethod
    def forward(ctx, v):
        Soft.calls += 1
        s = torch.sigmoid(5 * v)
        ctx.save_for_backward(s)
        return s

    @staticmethod
    def backward(ctx, grad):
        (s,) = ctx.saved_tensors
        return grad * 5 * s * (1 - s)


v = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
print(gradcheck(Soft.apply, (v,)), Soft.calls)
layer = nn.Linear(4, 2).double()
print(gradcheck(lambda v: layer(Soft.apply(v)), (v,), check_undefined_grad=False), Soft.calls)
print(gradgradcheck(torch.tanh, (v,)))
print(gradcheck(Spike.apply, (v,), raise_exception=False))
train(Net(Soft.apply), steps=2)
print(Soft.calls)
# %% saved-tensor-hooks: what the backward pass keeps is packed to half precision, and its bytes are counted
packed = unpacked = kept = 0


def pack(t):
    global packed, kept
    packed += 1
    kept += t.numel()
    return t.half() if t.dtype == torch.float32 and t.dim() == 3 else t


def unpack(t):
    global unpacked
    unpacked += 1
    return t.float() if t.dtype == torch.float16 else t


net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for _ in range(4):
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        loss = F.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), packed, unpacked, kept)
# %% save-on-cpu: activations are kept by save_on_cpu, in the sequence of a snntorch network
import snntorch as snn

fc1, lif1, fc2 = nn.Linear(20, 32), snn.Leaky(beta=0.9), nn.Linear(32, 4)
parameters = [*fc1.parameters(), *fc2.parameters()]
optimizer = torch.optim.Adam(parameters, lr=0.02)
for _ in range(4):
    mem = lif1.init_leaky()
    out = 0
    with torch.autograd.graph.save_on_cpu(pin_memory=False):
        for frame in x:
            spk, mem = lif1(2 * fc1(frame), mem)
            out = out + fc2(spk)
        loss = F.cross_entropy(out, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), spk.sum().item())
# %% no-saved-tensor-hooks: hooks on saved tensors are forbidden, as in a library that relies on their absence
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for _ in range(3):
    with torch.autograd.graph.disable_saved_tensors_hooks("this loop takes no hooks"):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(loss.item().hex())
try:
    with (
        torch.autograd.graph.disable_saved_tensors_hooks("no hooks here"),
        torch.autograd.graph.save_on_cpu(),
    ):
        net(x)
except RuntimeError as error:
    print(error)
# %% anomaly: detect_anomaly around training, a backward pass with nan that it finds, and the warnings that it shows
import warnings

with warnings.catch_warnings(record=True) as shown:
    warnings.simplefilter("always")
    with torch.autograd.detect_anomaly():
        train(Net(), steps=2)
        weight = torch.zeros(3, requires_grad=True)
        try:
            (torch.sqrt(weight) * 0).sum().backward()
        except RuntimeError as error:
            print(error)
print([w.category.__name__ for w in shown], "Anomaly" in str(shown[0].message))
print(torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled())
# %% retained-graph: two losses go back through one graph, and a third attempt fails
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    out = net(x)
    loss = F.cross_entropy(out, y)
    entropy = -(out.softmax(1) * out.log_softmax(1)).sum(1).mean()
    loss.backward(retain_graph=True)
    first = net.fc1.weight.grad.norm().item()
    (-0.1 * entropy).backward()
    print(loss.item().hex(), entropy.item().hex(), first.hex(), net.fc1.weight.grad.norm().item().hex())
    try:
        loss.backward()
    except RuntimeError as error:
        print(str(error)[:53])
    optimizer.step()
# %% batched-grads: the rows of the Jacobian of the read-out in one call, with is_grads_batched
class VmappedSpike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(v):
        return (v > 0).float()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad / (1 + v.abs()) ** 2


net = Net(VmappedSpike.apply)
out = net(x).mean(0)
rows = torch.autograd.grad(out, list(net.parameters()), torch.eye(4), is_grads_batched=True, retain_graph=True)
for row in rows:
    print(tuple(row.shape), row.sum().item().hex())
one = torch.autograd.grad(out[2], net.fc1.weight)[0]
print(torch.allclose(one, rows[0][2]))
train(net, steps=2)
# %% functional: jacobian, hessian, vjp, jvp and hvp of torch.autograd.functional, of a network that fires
from torch.autograd import functional

net = Net()
first = x[:, :1]


def readout(frames):
    return net(frames).squeeze(0)


def smooth(w):
    return F.mse_loss(torch.tanh(x[0] @ w), torch.ones(16))


jacobian = functional.jacobian(readout, first)
print(tuple(jacobian.shape), jacobian.abs().sum().item().hex())
out, pulled = functional.vjp(readout, first, torch.ones(4))
print(out.sum().item().hex(), pulled.sum().item().hex())
w = torch.linspace(-1, 1, 20)
print(functional.hessian(smooth, w, vectorize=True).trace().item().hex())
print(functional.jacobian(smooth, w, strategy="forward-mode", vectorize=True).norm().item().hex())
print(functional.jvp(smooth, w, torch.ones(20))[1].item().hex(), functional.hvp(smooth, w, w)[1].sum().item().hex())
# %% multi-grad-hooks: hooks on several gradients at once, and hooks that change the gradient of the spikes
from torch.autograd.graph import register_multi_grad_hook

net = Net()
log = []
parameters = list(net.parameters())
on_all = register_multi_grad_hook(parameters, lambda grads: log.append(("all", sum(g is not None for g in grads))))
on_any = register_multi_grad_hook(parameters, lambda grad: log.append(("any", tuple(grad.shape))), mode="any")
optimizer = torch.optim.SGD(parameters, lr=0.1)
for step in range(3):
    spikes = lif(2 * net.fc1(x))
    spikes.register_hook(lambda g: g * 2)
    spikes.register_hook(lambda g: log.append(("spikes", g.abs().sum().item().hex())))
    spikes.retain_grad()
    loss = F.cross_entropy(net.fc2(spikes).mean(0), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), spikes.grad.abs().sum().item().hex())
    if step == 1:
        on_all.remove()
        on_any.remove()
for entry in log:
    print(*entry)
# %% node-hooks: hooks on nodes of the graph, and a census of its nodes
from collections import Counter


def census(node):
    seen, todo = set(), [node]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo.extend(child for child, _ in node.next_functions)
    return Counter(node.name() for node in seen)


net = Net()
out = net(x)
loss = F.cross_entropy(out, y)
for name, count in sorted(census(loss.grad_fn).items()):
    print(name, count)
log = []
out.grad_fn.register_prehook(lambda grads: log.append(("before", len(grads), grads[0].norm().item().hex())))
out.grad_fn.register_hook(lambda gi, go: log.append(("after", len(gi), len(go))))
loss.grad_fn.register_hook(lambda gi, go: (gi[0] * 3, *gi[1:]))
loss.backward()
print(log, loss.grad_fn.metadata, net.fc1.weight.grad.norm().item().hex())
# %% inference-mode: evaluation in inference mode, and a tensor of it that autograd refuses
net = Net()
train(net, steps=2)
with torch.inference_mode():
    out = net(x)
    print(out.is_inference(), out.requires_grad, torch.is_inference_mode_enabled(), F.cross_entropy(out, y).item().hex())
    kept = net.fc1(x[0])
try:
    out = net.fc2(kept * net.fc2.weight.sum())
    out.sum().backward()
except RuntimeError as error:
    print(str(error).splitlines()[0][:60])
print(kept.clone().is_inference(), [p.is_inference() for p in net.parameters()])
train(net, steps=2)
# %% grad-modes: set_grad_enabled, no_grad and enable_grad as decorators and contexts, around frozen first layers
@torch.no_grad()
def encode(frames, layer):
    spikes = lif(2 * layer(frames))
    with torch.enable_grad():
        free = layer(frames[:1]).mean()
    return spikes, free, torch.is_grad_enabled()


class Frozen(Net):
    @torch.set_grad_enabled(True)
    def head(self, spikes):
        return self.fc2(spikes).mean(0)

    def forward(self, x):
        spikes, free, mode = encode(x, self.fc1)
        print(spikes.requires_grad, spikes.grad_fn, free.requires_grad, mode)
        return self.head(spikes) + 0 * free


net = Frozen()
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for learning in (True, False, True):
    with torch.set_grad_enabled(learning):
        loss = F.cross_entropy(net(x), y)
    optimizer.zero_grad()
    if loss.requires_grad:
        loss.backward()
    optimizer.step()
    print(loss.item().hex(), learning, [p.grad is not None for p in net.parameters()])
# %% threads: two networks are trained at the same time in threads, each with its own loss
import threading

results = {}
sampling = threading.Lock()


def work(name, net):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    losses = []
    for _ in range(4):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item().hex())
    with sampling:
        results[name] = losses


nets = {"a": Net(), "b": Net()}
threads = [threading.Thread(target=work, args=item) for item in nets.items()]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for name in sorted(results):
    print(name, *results[name])
# %% backward-elsewhere: the forward pass runs in the main thread and the backward pass in a pool, one at a time
from concurrent.futures import ThreadPoolExecutor

net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
with ThreadPoolExecutor(1) as pool, torch.autograd.set_multithreading_enabled(False):
    for _ in range(4):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        pool.submit(loss.backward).result()
        pool.submit(optimizer.step).result()
        print(loss.item().hex(), net.fc2.bias.grad.norm().item().hex())
# %% pickled-apply: a network that stores a surrogate's apply as an attribute is pickled, copied and trained on
import copy
import pickle

net = Net()
train(net, steps=2)
data = pickle.dumps(net)
print(len(data), pickle.loads(pickle.dumps(net.spike)) == Spike.apply, net.spike.__self__ is Spike, net.spike.__name__)
again = pickle.loads(data)
twin = copy.deepcopy(net)
train(again, steps=2)
train(twin, steps=2)
torch.save(twin, "net.pt")
other = torch.load("net.pt", weights_only=False)
print(type(other).__qualname__, torch.equal(other(x), again(x)), sorted(vars(other)))
# %% checkpoint: layers are recomputed in the backward pass, with dropout, without re-entrance
from torch.utils.checkpoint import checkpoint


class Deep(nn.Module):
    calls = 0

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, 32) for a in (20, 32, 32))
        self.dropout = nn.Dropout(0.2)
        self.out = nn.Linear(32, 4)

    def block(self, layer, x):
        Deep.calls += 1
        return self.dropout(lif(3 * layer(x)))

    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(self.block, layer, x, use_reentrant=False)
        return self.out(x).mean(0)


net = Deep()
train(net, steps=4)
print(Deep.calls, torch.rand(1).item().hex())
# %% checkpoint-module: modules are checkpointed with re-entrance, and the state of the generator is not preserved
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    passes = []

    def __init__(self, n, m):
        super().__init__()
        self.fc = nn.Linear(n, m)

    def forward(self, x):
        Block.passes.append(torch.is_grad_enabled())
        return lif(2 * self.fc(x))


a, b, out = Block(20, 32), Block(32, 32), nn.Linear(32, 4)
optimizer = torch.optim.SGD([*a.parameters(), *b.parameters(), *out.parameters()], lr=0.2)
frames = x.clone().requires_grad_()
for _ in range(3):
    h = checkpoint(a, frames, use_reentrant=True)
    h = checkpoint(b, h, use_reentrant=True, preserve_rng_state=False)
    loss = F.cross_entropy(out(h).mean(0), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), frames.grad.norm().item().hex())
print(Block.passes)
# %% checkpoint-sequential: a sequence of spikingjelly's layers in two segments
import sys

from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch.utils.checkpoint import checkpoint_sequential


class LIF(neuron.LIFNode):
    charges = 0

    def multi_step_forward(self, x_seq):
        LIF.charges += 1
        self.reset()  # a segment is computed twice
        return super().multi_step_forward(x_seq)


layers = []
for n, m in ((20, 32), (32, 32), (32, 16)):
    layers += [layer.Linear(n, m), LIF(tau=2.0, surrogate_function=surrogate.ATan())]
net = nn.Sequential(*layers, layer.Linear(16, 4))
functional.set_step_mode(net, "m")
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for _ in range(3):
    loss = F.cross_entropy(checkpoint_sequential(net, 2, 6 * x, use_reentrant=False).mean(0), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    functional.reset_net(net)
    print(loss.item().hex())
print(LIF.charges)
sys.exit(0)
# %% checkpoint-policy: selective checkpointing, whose policy counts the operations that it sees
from collections import Counter

from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

net = Net()
seen = Counter()


def policy(context, op, *args, **kwargs):
    seen[str(op), context.is_recompute] += 1
    save = op in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default)
    return CheckpointPolicy.MUST_SAVE if save else CheckpointPolicy.PREFER_RECOMPUTE


def contexts():
    return create_selective_checkpoint_contexts(policy)


optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for _ in range(2):
    out = checkpoint(net, x, use_reentrant=False, context_fn=contexts)
    loss = F.cross_entropy(out, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
for (op, recompute), count in sorted(seen.items()):
    print(op, recompute, count)
# %% needs-input-grad: a function with settings that are no tensors, which computes only the gradients that are needed
class Synapse(torch.autograd.Function):
    needed = []

    @staticmethod
    def forward(ctx, spikes, weight, scale=1.0, name="w"):
        ctx.save_for_backward(spikes, weight)
        ctx.scale, ctx.name = scale, name
        return scale * spikes @ weight.t()

    @staticmethod
    def backward(ctx, grad):
        spikes, weight = ctx.saved_tensors
        Synapse.needed.append((ctx.name, ctx.needs_input_grad))
        grad_spikes = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_spikes = ctx.scale * grad @ weight
        if ctx.needs_input_grad[1]:
            grad_weight = ctx.scale * grad.flatten(0, -2).t() @ spikes.flatten(0, -2)
        return grad_spikes, grad_weight, None, None


w1, w2 = (0.3 * torch.randn(32, 20)).requires_grad_(), (0.3 * torch.randn(4, 32)).requires_grad_()
for _ in range(4):
    out = Synapse.apply(lif(Synapse.apply(x, w1, 1.5, "w1")), w2, 1.0, "w2")
    loss = F.cross_entropy(out.mean(0), y)
    for w, g in zip((w1, w2), torch.autograd.grad(loss, (w1, w2))):
        w.data.sub_(g, alpha=0.3)
    print(loss.item().hex())
print(Synapse.needed)
# %% backward-inputs: backward of several tensors for some inputs only, and gradients of edges of the graph
from torch.autograd.graph import get_gradient_edge

net = Net()
for _ in range(3):
    out = net(x)
    losses = [F.cross_entropy(out, y), out.pow(2).mean()]
    edge = get_gradient_edge(out)
    (g,) = torch.autograd.grad(losses[0], edge, retain_graph=True)
    torch.autograd.backward(losses, [None, torch.tensor(0.1)], inputs=[net.fc2.weight, net.fc2.bias])
    with torch.no_grad():
        for p in net.parameters():
            if p.grad is not None:
                p.add_(p.grad, alpha=-0.5)
                p.grad = None
    print(losses[0].item().hex(), g.norm().item().hex(), edge.output_nr, net.fc1.weight.grad)
# %% non-leaf-grad: every warning is recorded, also that of reading the gradient of a tensor that is no leaf
import warnings

warnings.simplefilter("always")
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
with warnings.catch_warnings(record=True) as shown:
    for _ in range(4):
        out = net(x)
        loss = F.cross_entropy(out, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    before = len(shown)
    print(out.grad, out.retains_grad, out.is_leaf)
    print(before, len(shown), shown[-1].category.__name__, shown[-1].lineno > 0)
print(loss.item().hex())
# %% freed: weak references show that spikes and graph are gone as soon as the script lets go of them
import gc
import weakref

gc.disable()
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
alive = []
for _ in range(4):
    spikes = lif(2 * net.fc1(x))
    out = net.fc2(spikes).mean(0)
    loss = F.cross_entropy(out, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    alive += [weakref.ref(spikes), weakref.ref(out), weakref.ref(loss)]
    print(loss.item().hex())
    del spikes, out, loss
    print(sum(reference() is not None for reference in alive))
# %% hook-once: hooks that remove themselves, are partials or bound methods, and a hook that raises
import functools


class Watcher:
    def __init__(self):
        self.norms = []

    def see(self, name, grad):
        self.norms.append((name, grad.norm().item().hex()))


watcher = Watcher()
net = Net()
handles = {}


def once(name, grad):
    handles.pop(name).remove()
    return grad.clamp(-0.01, 0.01)


for name, p in net.named_parameters():
    p.register_hook(functools.partial(watcher.see, name))
    handles[name] = p.register_hook(functools.partial(once, name))
train(net, steps=3)
print(watcher.norms, handles)


def refuse(grad):
    raise ArithmeticError("gradient refused")


net.fc1.weight.register_hook(refuse)
try:
    train(net, steps=1)
except ArithmeticError as error:
    print(type(error).__name__, error)
# %% local-learning: each layer has its own loss and detached inputs, and its gradients are taken with autograd.grad
class Layer(nn.Module):
    def __init__(self, n, m):
        super().__init__()
        self.fc, self.readout = nn.Linear(n, m), nn.Linear(m, 4, bias=False)
        self.readout.requires_grad_(False)

    def forward(self, x):
        spikes = lif(2 * self.fc(x.detach()))
        return spikes, self.readout(spikes).mean(0)


layers = nn.ModuleList([Layer(20, 32), Layer(32, 24)])
for _ in range(5):
    h = x
    for layer in layers:
        h, out = layer(h)
        loss = F.cross_entropy(out, y)
        for p, g in zip(layer.fc.parameters(), torch.autograd.grad(loss, layer.fc.parameters())):
            p.data -= 0.5 * g
        print(loss.item().hex(), h.mean().item().hex(), end=" ")
    print()
# %% truncated: norse's cells with a detached state every two timesteps, and a backward pass for each piece
import norse.torch as norse

cell, fc, readout = norse.LIFCell(), nn.Linear(20, 32), nn.Linear(32, 4)
parameters = [*fc.parameters(), *readout.parameters()]
optimizer = torch.optim.Adam(parameters, lr=0.02)
for _ in range(3):
    state = None
    for start in range(0, 4, 2):
        out = 0
        for frame in x[start : start + 2]:
            spikes, state = cell(30 * fc(frame), state)
            out = out + readout(spikes)
        loss = F.cross_entropy(out, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state = type(state)(*(s.detach() for s in state))
        print(loss.item().hex(), spikes.sum().item(), type(state).__name__, end=" ")
    print()
# %% snntorch-surrogate: a surrogate of one's own in snntorch, which counts its calls and draws random numbers
import snntorch as snn
from snntorch import surrogate

calls = []


def slope(input_, grad_input, spikes):
    calls.append(tuple(input_.shape))
    return grad_input / (1 + input_.abs()) ** 2 * (1 + 0.1 * torch.rand_like(input_))


spike_grad = surrogate.custom_surrogate(slope)
fc1, fc2 = nn.Linear(20, 32), nn.Linear(32, 4)
lif1, lif2 = snn.Leaky(beta=0.9, spike_grad=spike_grad), snn.Leaky(beta=0.8, spike_grad=spike_grad)
optimizer = torch.optim.Adam([*fc1.parameters(), *fc2.parameters()], lr=0.02)
for _ in range(4):
    mem1, mem2 = lif1.init_leaky(), lif2.init_leaky()
    total = 0
    for frame in x:
        spk, mem1 = lif1(2 * fc1(frame), mem1)
        spk, mem2 = lif2(fc2(spk), mem2)
        total = total + mem2
    loss = F.cross_entropy(total, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
print(len(calls), sorted(set(calls)), torch.rand(1).item().hex())
