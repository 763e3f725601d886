import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, vmap

torch.manual_seed(0)
x = (torch.rand(3, 12, 10) < 0.4).float()  # (T, B, features)
y = torch.randint(0, 3, (12,))


class Spike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(v):
        return (v > 0).to(v.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        return g / (1 + (3 * v).abs()) ** 2

    @staticmethod
    def jvp(ctx, tangent):
        (v,) = ctx.saved_tensors
        return tangent / (1 + (3 * v).abs()) ** 2


def lif(current, beta=0.9):
    v, spikes = torch.zeros_like(current[0]), []
    for i in current.unbind(0):
        v = beta * v + 2 * i
        s = Spike.apply(v - 1)
        v = v - s
        spikes.append(s)
    return torch.stack(spikes)


class Net(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(10, hidden), nn.Linear(hidden, 3)

    def forward(self, x):
        return self.fc2(lif(self.fc1(x))).mean(0)


net = Net()
parameters = {name: p.detach() for name, p in net.named_parameters()}


def loss_of(parameters, x, y):
    return F.cross_entropy(functional_call(net, parameters, (x,)), y)


# %% functional-training: weights are a dictionary, and training is grad_and_value and a new dictionary
from torch.func import grad_and_value

step = grad_and_value(loss_of)
for _ in range(6):
    gradients, loss = step(parameters, x, y)
    parameters = {name: p - 0.5 * gradients[name] for name, p in parameters.items()}
    print(loss.item().hex(), gradients["fc1.weight"].norm().item().hex(), loss.requires_grad)
print([p.grad for p in net.parameters()], net.fc1.weight.requires_grad)
# %% per-sample: the gradients of all samples by vmap of grad, which are clipped and blurred as for privacy
each = vmap(grad(lambda p, frames, label: loss_of(p, frames.unsqueeze(1), label.unsqueeze(0))), in_dims=(None, 1, 0))
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
for _ in range(5):
    gradients = each(dict(net.named_parameters()), x, y)
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()]).norm(dim=0)
    factors = (1 / norms).clamp(max=1)
    for name, p in net.named_parameters():
        clipped = torch.einsum("b,b...->...", factors, gradients[name])
        p.grad = (clipped + 0.1 * torch.randn_like(p)) / len(y)
    optimizer.step()
    print(norms.mean().item().hex(), norms.max().item().hex(), loss_of(dict(net.named_parameters()), x, y).item().hex())
# %% vjp-jvp: pullbacks and pushforwards through the surrogate's own rules, and that they agree
from torch.func import jvp, vjp

out, pull = vjp(lambda p: functional_call(net, p, (x,)), parameters)
(gradients,) = pull(torch.ones_like(out))
direction = {name: torch.randn_like(p) for name, p in parameters.items()}
out, pushed = jvp(lambda p: functional_call(net, p, (x,)), (parameters,), (direction,))
print(out.sum().item().hex(), pushed.sum().item().hex())
agreed = sum((gradients[name] * direction[name]).sum() for name in parameters)
print(abs(agreed.item() - pushed.sum().item()) < 1e-4, {name: g.norm().item().hex() for name, g in gradients.items()})
for _ in range(3):
    _, pull = vjp(lambda p: loss_of(p, x, y), parameters)
    parameters = {name: p - 0.5 * g for (name, p), g in zip(parameters.items(), pull(torch.tensor(1.0))[0].values())}
    print(loss_of(parameters, x, y).item().hex())
# %% jacobians: jacrev and jacfwd of a spiking network, in chunks, and the Hessian of a smooth read-out
from torch.func import hessian, jacfwd, jacrev

first = x[:, :2]


def run(frames):
    return net(frames)


reverse, forward = jacrev(run, chunk_size=3)(first), jacfwd(run)(first)
print(tuple(reverse.shape), reverse.abs().sum().item().hex(), forward.abs().sum().item().hex())
print(torch.allclose(reverse, forward, atol=1e-6))
rates = lif(net.fc1(x)).mean(0).detach()


def readout(w):
    return F.cross_entropy(rates[:, :4] @ w, y)


w = torch.zeros(4, 3)
for _ in range(4):
    h = hessian(readout)(w).reshape(12, 12) + 0.1 * torch.eye(12)
    w = w - torch.linalg.solve(h, grad(readout)(w).flatten()).view(4, 3)
    print(readout(w).item().hex(), h.trace().item().hex())
# %% ensemble: five networks are stacked, with one on the meta device as the skeleton, and trained together
import copy

from torch.func import stack_module_state

members = [Net() for _ in range(5)]
stacked, buffers = stack_module_state(members)
base = copy.deepcopy(members[0]).to("meta")


def run(p, b, x):
    return functional_call(base, (p, b), (x,))


optimizer = torch.optim.SGD(stacked.values(), lr=1.0)
for _ in range(5):
    out = vmap(run, in_dims=(0, 0, None))(stacked, buffers, x)
    losses = vmap(F.cross_entropy, in_dims=(0, None))(out, y)
    optimizer.zero_grad()
    losses.sum().backward()
    optimizer.step()
    print([loss.item().hex() for loss in losses])
print({name: tuple(p.shape) for name, p in stacked.items()}, {p.device.type for p in base.parameters()}, buffers)
# %% buffers: functional_call with buffers and tied weights, strictly and not, of a network with normalisation
class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.norm = nn.Linear(10, 10), nn.BatchNorm1d(10)
        self.again = self.fc
        self.out = nn.Linear(10, 3)

    def forward(self, x, scale=1.0):
        h = self.norm(self.fc(x.flatten(0, 1))).unflatten(0, (3, 12))
        return scale * self.out(lif(self.again(lif(h)))).mean(0)


net = Normalised()
parameters = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
buffers = {name: b.clone() for name, b in net.named_buffers()}
for _ in range(4):
    loss = F.cross_entropy(functional_call(net, (parameters, buffers), (x,), {"scale": 2.0}, tie_weights=True), y)
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    parameters = {n: (p - 0.3 * g).detach().requires_grad_() for (n, p), g in zip(parameters.items(), gradients)}
    print(loss.item().hex(), buffers["norm.running_mean"].sum().item().hex(), buffers["norm.num_batches_tracked"].item())
print(net.norm.num_batches_tracked.item(), net.norm.running_mean.sum().item())
try:
    functional_call(net, {"fc.weight": parameters["fc.weight"]}, (x,), strict=True)
except RuntimeError as error:
    print(type(error).__name__)
# %% linearize: a network is linearized at its weights once, and pushed along several directions
from torch.func import linearize

rates = lif(net.fc1(x)).mean(0).detach()
out, push = linearize(lambda w: torch.tanh(rates @ w), torch.ones(16, 3))
print(out.sum().item().hex())
for scale in (0.5, 1.0, 2.0):
    print(push(scale * torch.ones(16, 3)).sum().item().hex())
print(push(torch.eye(16, 3)).norm().item().hex())
for _ in range(3):
    gradients = grad(loss_of)(parameters, x, y)
    parameters = {name: p - 0.5 * gradients[name] for name, p in parameters.items()}
    print(loss_of(parameters, x, y).item().hex())
# %% functionalize: a step that overwrites potentials is traced without mutations, and its graph counted
from collections import Counter

from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx


def step(v, current):
    v = v.clone()
    v.mul_(0.9).add_(current)
    s = (v > 1).float()
    v[s.bool()] = 0
    v.view(-1)[:2].add_(1)
    return v, s


v, current = torch.rand(4, 5), torch.rand(4, 5)
print(torch.equal(functionalize(step)(v, current)[0], step(v, current)[0]))
for function in (step, functionalize(step, remove="mutations_and_views")):
    graph = make_fx(function)(v, current).graph
    print(len(graph.nodes), sorted(Counter(str(n.target) for n in graph.nodes if n.op == "call_function").items()))
print(loss_of(parameters, x, y).item().hex())
# %% randomness: vmap with noise that is the same or different for each network, in chunks, and a refusal
def noisy(current):
    return lif(current + 0.5 * torch.randn_like(current)).sum()


current = net.fc1(x).detach()
try:
    vmap(noisy, in_dims=1)(current)
except RuntimeError as error:
    print(str(error)[:60])
for randomness in ("same", "different"):
    torch.manual_seed(4)
    counts = vmap(noisy, in_dims=1, randomness=randomness, chunk_size=5)(current)
    print(randomness, counts.tolist())
dropped = vmap(lambda c: F.dropout(lif(c), 0.5), in_dims=1, out_dims=1, randomness="different")(current)
print(tuple(dropped.shape), dropped.sum().item(), torch.rand(1).item().hex())
for _ in range(3):
    gradients = grad(lambda p: loss_of(p, x, y) + 0.01 * F.dropout(p["fc1.weight"]).pow(2).sum())(parameters)
    parameters = {name: p - 0.5 * gradients[name] for name, p in parameters.items()}
    print(loss_of(parameters, x, y).item().hex())
# %% sweep: decays and thresholds are swept by nested vmaps, with in_dims of dictionaries and several outputs
def simulate(setting, current):
    v, count = torch.zeros(12), 0
    for i in current:
        v = setting["beta"] * v + i
        s = Spike.apply(v - setting["threshold"])
        v = torch.where(s > 0, torch.zeros_like(v), v)
        count = count + s
    return count.mean(), {"v": v.mean()}


settings = {"beta": torch.tensor([0.5, 0.8, 0.95]), "threshold": torch.tensor([0.5, 1.0, 1.5, 2.0])}
over_threshold = vmap(simulate, in_dims=({"beta": None, "threshold": 0}, None))
over_both = vmap(over_threshold, in_dims=({"beta": 0, "threshold": None}, None), out_dims=(1, 0))
counts, rest = over_both(settings, 2 * torch.rand(8, 12))
print(tuple(counts.shape), counts.tolist(), rest["v"].sum().item().hex())
slope = vmap(grad(lambda beta: simulate({"beta": beta, "threshold": torch.tensor(1.0)}, x[..., 0])[0]))(settings["beta"])
print([s.hex() for s in slope.tolist()])
# %% maml: an inner step of gradient descent for each task, and the gradient through it for the outer one
def adapted(parameters, frames, labels, rate=0.5):
    gradients = grad(loss_of)(parameters, frames[:, :6], labels[:6])
    inner = {name: p - rate * gradients[name] for name, p in parameters.items()}
    return loss_of(inner, frames[:, 6:], labels[6:])


tasks = torch.stack([(y + shift) % 3 for shift in range(3)])
parameters = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
optimizer = torch.optim.Adam(parameters.values(), lr=0.03)
for _ in range(4):
    losses = vmap(adapted, in_dims=(None, None, 0))(parameters, x, tasks)
    optimizer.zero_grad()
    losses.mean().backward()
    optimizer.step()
    print([loss.item().hex() for loss in losses], parameters["fc1.weight"].grad.norm().item().hex())
# %% curvature: Hessian-vector products by jvp of grad, for the largest eigenvalue between steps of training
from torch.func import jvp


class Smooth(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(10, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x))).mean(0)


net = Smooth()
optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
for _ in range(3):
    parameters = {name: p.detach() for name, p in net.named_parameters()}
    v = {name: torch.ones_like(p) for name, p in parameters.items()}
    for _ in range(4):
        norm = torch.sqrt(sum(t.pow(2).sum() for t in v.values()))
        v = {name: t / norm for name, t in v.items()}
        _, v = jvp(grad(lambda p: loss_of(p, x, y)), (parameters,), (v,))
    loss = F.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), torch.sqrt(sum(t.pow(2).sum() for t in v.values())).item().hex())
# %% tangent-kernel: the neural tangent kernel of a spiking network, before and after training
from torch.func import jacrev


def kernel(parameters):
    def of_sample(parameters, frames):
        return functional_call(net, parameters, (frames.unsqueeze(1),)).squeeze(0)

    jacobian = vmap(jacrev(of_sample), in_dims=(None, 1))(parameters, x)
    return sum(torch.einsum("Naf,Maf->NM", j.flatten(2), j.flatten(2)) for j in jacobian.values())


for _ in range(2):
    k = kernel({name: p.detach() for name, p in net.named_parameters()})
    print(tuple(k.shape), k.trace().item().hex(), torch.linalg.eigvalsh(k)[-1].item() > 0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    for _ in range(3):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item().hex())
# %% batch-norm: a normalisation without running statistics, as vmap needs it, put in by replace_all_batch_norm_modules_
from torch.func import replace_all_batch_norm_modules_, stack_module_state


def build():
    torch.manual_seed(len(built))
    built.append(1)
    return nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


built = []
members = [replace_all_batch_norm_modules_(build()) for _ in range(3)]
print([(m[1].track_running_stats, m[1].running_mean) for m in members])
stacked, buffers = stack_module_state(members)
skeleton = members[0]
step = vmap(torch.func.grad_and_value(lambda p, x, y: F.cross_entropy(functional_call(skeleton, p, (x,)), y)), in_dims=(0, None, None))
for _ in range(4):
    gradients, losses = step(stacked, x.mean(0), y)
    stacked = {name: p.detach() - 0.5 * gradients[name] for name, p in stacked.items()}
    print([loss.item().hex() for loss in losses])
# %% levels: values are printed inside of transforms, where tensors are wrapped, and what torch says of them
from torch._C._functorch import is_batchedtensor, is_gradtrackingtensor, maybe_get_level

levels = []


def loss_of_sample(w, frames, label):
    s = lif(frames @ w)
    levels.append((is_batchedtensor(s), is_gradtrackingtensor(s), maybe_get_level(s), tuple(s.shape)))
    return F.cross_entropy(s.mean(0).unsqueeze(0), label.unsqueeze(0))


w = torch.randn(10, 3)
for _ in range(4):
    gradients = vmap(grad(loss_of_sample), in_dims=(None, 1, 0))(w, x, y)
    w = w - gradients.mean(0)
    print(gradients.abs().sum().item().hex())
print(levels)
# %% hooks-inside: modules with hooks of the script's own are called inside of vmap and grad
calls = []


def see(module, inputs, output):
    calls.append((type(module).__name__, tuple(output.shape), str(type(output).__name__)))


for module in net.modules():
    module.register_forward_hook(see)
each = vmap(grad(lambda p, frames, label: loss_of(p, frames.unsqueeze(1), label.unsqueeze(0))), in_dims=(None, 1, 0))
gradients = each(parameters, x, y)
print({name: g.sum(0).norm().item().hex() for name, g in gradients.items()}, calls)
calls.clear()
optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
for _ in range(3):
    loss = F.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), len(calls))
