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
    def forward(self, current):
        v, spikes = torch.zeros_like(current[0]), []
        for i in current:
            v = 0.9 * v + 2 * i
            spikes.append(Spike.apply(v - 1))
            v = v - spikes[-1].detach()
        return torch.stack(spikes)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(0)


def build(hidden=24):
    return nn.Sequential(nn.Linear(12, hidden), LIF(), nn.Linear(hidden, 3), Mean())


net = build()


def train(optimizer, steps=4):
    for _ in range(steps):
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item().hex())


# %% lbfgs: LBFGS evaluates its closure several times a step, and the script counts that
optimizer = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=4, history_size=5, line_search_fn="strong_wolfe")
evaluations = []


def closure():
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), y) + 1e-3 * sum(p.pow(2).sum() for p in net.parameters())
    loss.backward()
    evaluations.append(loss.item().hex())
    return loss


for _ in range(3):
    before = len(evaluations)
    loss = optimizer.step(closure)
    print(loss.item().hex(), len(evaluations) - before)
state = optimizer.state[net[0].weight]
print(state["func_evals"], state["n_iter"], len(state["old_dirs"]), evaluations[-1])
# %% closure: SGD and Adam with a closure, whose loss step returns, and a step without any
for kind in (torch.optim.SGD, torch.optim.Adam):
    calls = 0
    optimizer = kind(net.parameters(), lr=0.05)

    def closure():
        global calls
        calls += 1
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        return loss

    for _ in range(3):
        print(optimizer.step(closure).item().hex(), torch.is_grad_enabled())
    print(optimizer.step(), calls)
# %% own-rate: an own optimiser without a learning rate (lr=None), which computes its step sizes itself
class Relative(torch.optim.Optimizer):
    def __init__(self, params, lr=None, scale=0.05):
        super().__init__(params, {"lr": lr, "scale": scale})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                size = group["lr"] or group["scale"] * p.norm().clamp(min=1e-3) / p.grad.norm().clamp(min=1e-8)
                p.sub_(size * p.grad)
                self.state[p]["size"] = float(size)


optimizer = Relative(net.parameters())
train(optimizer, 5)
print(optimizer.param_groups[0]["lr"], [state["size"].hex() for state in optimizer.state.values()], optimizer.defaults)
# %% callable-rate: an own optimiser whose learning rate is a function of the step, with a counter of its calls
class Scheduled(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, dict(lr=lr, t=0))

    def step(self, closure=None):
        with torch.no_grad():
            for group in self.param_groups:
                group["t"] += 1
                rate = group["lr"](group["t"]) if callable(group["lr"]) else group["lr"]
                for p in group["params"]:
                    p.add_(p.grad, alpha=-rate)


asked = []


def rate(t):
    asked.append(t)
    return 0.4 / t**0.5


optimizer = Scheduled([{"params": net[0].parameters(), "lr": 0.1}, {"params": net[2].parameters()}], lr=rate)
train(optimizer, 5)
print(asked, [group["t"] for group in optimizer.param_groups])
# %% groups: named parameters in groups with rates and decays of their own, and a group that is added later
decayed = [(name, p) for name, p in net.named_parameters() if p.dim() > 1]
others = [(name, p) for name, p in net.named_parameters() if p.dim() == 1]
optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "lr": 0.1, "label": "bias"}], lr=0.02, weight_decay=0)
train(optimizer, 2)
extra = nn.Parameter(torch.zeros(3))
optimizer.add_param_group({"params": [("extra", extra)], "lr": 0.5})
for _ in range(3):
    loss = F.cross_entropy(net(x) + extra, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), extra.detach().sum().item().hex())
for group in optimizer.param_groups:
    print(group["lr"], group["weight_decay"], group["param_names"], sorted(set(group) - {"params"})[:4])
try:
    optimizer.add_param_group({"params": [("extra", extra)]})
except ValueError as error:
    print(error)
# %% own-optimiser: an own optimiser that follows signs, with state, defaults and a closure, and its representation
class SignMomentum(torch.optim.Optimizer):
    steps = 0

    def __init__(self, params, lr=1e-2, beta=0.9):
        if lr <= 0:
            raise ValueError(f"lr {lr}")
        super().__init__(params, {"lr": lr, "beta": beta})

    def step(self, closure=None):
        SignMomentum.steps += 1
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    m = self.state[p].setdefault("m", torch.zeros_like(p))
                    m.lerp_(p.grad, 1 - group["beta"])
                    p.add_(m.sign(), alpha=-group["lr"])
        return loss


optimizer = SignMomentum(net.parameters())
train(optimizer, 6)
print(optimizer, SignMomentum.steps, len(optimizer.state), len(optimizer.state_dict()["state"]))
# %% implementations: loops, foreach and fused give the same training, and capturable is refused on a CPU
import copy

start = copy.deepcopy(net.state_dict())
for options in ({"foreach": False}, {"foreach": True}, {"fused": True}, {"foreach": True, "maximize": False, "amsgrad": True}):
    net.load_state_dict(start)
    optimizer = torch.optim.AdamW(net.parameters(), lr=torch.tensor(0.02) if "fused" in options else 0.02, **options)
    print(options)
    train(optimizer, 3)
    print(optimizer.state[net[0].weight]["step"], optimizer.param_groups[0]["foreach"], optimizer.param_groups[0]["fused"])
optimizer = torch.optim.Adam(net.parameters(), capturable=True)
try:
    train(optimizer, 1)
except (AssertionError, RuntimeError) as error:
    print(type(error).__name__, str(error)[:60])
# %% differentiable: an optimiser is differentiable, and its learning rate is learned through its step
rate = torch.tensor(0.3, requires_grad=True)
outer = torch.optim.SGD([rate], lr=0.1)
for _ in range(4):
    weight = torch.zeros(12, 3, requires_grad=True)
    current = weight.clone()
    current.retain_grad()
    optimizer = torch.optim.SGD([current], lr=rate, differentiable=True)
    F.cross_entropy(x.mean(0) @ current, y).backward(inputs=[current], create_graph=True)
    optimizer.step()
    loss = F.cross_entropy(x.mean(0) @ current, y)
    (rate.grad,) = torch.autograd.grad(loss, rate)
    outer.step()
    print(loss.item().hex(), rate.item().hex())
train(torch.optim.SGD(net.parameters(), lr=0.2), 2)
# %% schedulers: schedulers of several kinds one after another and chained, and the rates that they set
from torch.optim import lr_scheduler as schedulers

optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
sequence = schedulers.SequentialLR(
    optimizer,
    [schedulers.LinearLR(optimizer, 0.1, total_iters=2), schedulers.CosineAnnealingWarmRestarts(optimizer, T_0=2)],
    milestones=[2],
)
for _ in range(5):
    train(optimizer, 1)
    sequence.step()
    print(sequence.get_last_lr()[0].hex(), optimizer.param_groups[0]["initial_lr"])
for make in (
    lambda o: schedulers.StepLR(o, 1, 0.5),
    lambda o: schedulers.LambdaLR(o, lambda epoch: 0.9**epoch),
    lambda o: schedulers.ChainedScheduler([schedulers.ExponentialLR(o, 0.9), schedulers.ConstantLR(o, 0.5, 2)], o),
    lambda o: schedulers.CyclicLR(o, 0.01, 0.1, step_size_up=2),
    lambda o: schedulers.PolynomialLR(o, 3),
):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scheduler = make(optimizer)
    train(optimizer, 2)
    scheduler.step()
    print(type(scheduler).__name__, optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"])
# %% one-cycle: OneCycleLR steps with every batch, and warns when it steps before the optimiser does
import warnings

optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
with warnings.catch_warnings(record=True) as shown:
    warnings.simplefilter("always")
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=6)
    for _ in range(6):
        train(optimizer, 1)
        print(scheduler.get_last_lr()[0].hex(), optimizer.param_groups[0]["betas"][0])
        if scheduler.last_epoch < 5:
            scheduler.step()
    print(len(shown))
    late = torch.optim.SGD(net.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(late, 1)
    scheduler.step()
    print(len(shown), str(shown[0].message)[:48])
print(optimizer.step.__name__, hasattr(optimizer.step, "_wrapped_by_lr_sched"), "step" in vars(late), late.step.__qualname__)
# %% plateau: the rate falls when the loss no longer does, with the state of the scheduler saved and loaded
optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=0.1)
for epoch in range(6):
    loss = F.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step(loss)
    print(loss.item().hex(), scheduler.get_last_lr(), scheduler.num_bad_epochs)
torch.save(scheduler.state_dict(), "scheduler.pt")
state = torch.load("scheduler.pt", weights_only=False)
print(sorted(state), type(state["best"]).__name__)
scheduler.load_state_dict(state)
print(scheduler.last_epoch, scheduler.in_cooldown)
# %% swa: weights are averaged from the third step on, with their own schedule, and batch statistics computed anew
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.body = nn.BatchNorm1d(4), build()

    def forward(self, frames):
        return self.body(self.norm(frames).transpose(0, 1))


net, frames = Normalised(), x.transpose(0, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
average, schedule = AveragedModel(net), SWALR(optimizer, swa_lr=0.05, anneal_epochs=2)
for step in range(6):
    loss = F.cross_entropy(net(frames), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step >= 2:
        average.update_parameters(net)
        schedule.step()
    print(loss.item().hex(), optimizer.param_groups[0]["lr"])
norm = average.module.norm
before = norm.running_mean.sum().item().hex()
update_bn([(frames[:8], y[:8]), (frames[8:], y[8:])], average)
print(before, norm.running_mean.sum().item().hex(), average.n_averaged.item(), norm.momentum)
print(F.cross_entropy(average(frames), y).item().hex(), average.training)
# %% ema: an exponential moving average of the weights with get_ema_multi_avg_fn, evaluated beside the network
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True)
optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
for _ in range(6):
    train(optimizer, 1)
    average.update_parameters(net)
    with torch.no_grad():
        print(F.cross_entropy(average(x), y).item().hex(), average.n_averaged.item())
torch.save(average.state_dict(), "ema.pt")
print(list(torch.load("ema.pt")), sum(1 for _ in average.modules()))
# %% state: the optimiser's state is written, hashed and loaded, with hooks before and after, and training goes on
import copy
import hashlib

optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
log = []
optimizer.register_state_dict_pre_hook(lambda o: log.append("writing"))
optimizer.register_state_dict_post_hook(lambda o, state: log.append(("written", sorted(state))))
optimizer.register_load_state_dict_pre_hook(lambda o, state: log.append(("loading", len(state["state"]))))
optimizer.register_load_state_dict_post_hook(lambda o: log.append("loaded"))
train(optimizer, 3)
torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, "checkpoint.pt")
print(hashlib.sha256(open("checkpoint.pt", "rb").read()).hexdigest())
expected = copy.deepcopy(net.state_dict())
train(optimizer, 2)
kept = torch.load("checkpoint.pt")
net.load_state_dict(kept["net"])
optimizer.load_state_dict(kept["optimizer"])
print(all(torch.equal(a, b) for a, b in zip(expected.values(), net.state_dict().values())))
train(optimizer, 2)
print(log)
# %% pickled-optimiser: an optimiser and its scheduler are pickled and copied whole, while they train
import copy
import pickle

optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
train(optimizer, 3)
scheduler.step()
print(len(pickle.dumps(optimizer.state_dict())), sorted(vars(optimizer))[:6])
twin, twin_optimizer = pickle.loads(pickle.dumps((net, torch.optim.SGD(net.parameters(), lr=0.1))))
print(type(twin_optimizer).__name__, twin_optimizer.param_groups[0]["params"][0] is twin[0].weight)
net, optimizer = copy.deepcopy((net, optimizer))
print(optimizer.param_groups[0]["params"][0] is net[0].weight, len(optimizer.state))
train(torch.optim.SGD(net.parameters(), lr=0.1), 2)
torch.save(optimizer, "optimizer.pt")
print(torch.load("optimizer.pt", weights_only=False).param_groups[0]["lr"])
# %% in-backward: every parameter has its own optimiser, which steps as soon as its gradient is there
optimizers = {p: torch.optim.Adam([p], lr=0.05) for p in net.parameters()}
steps = []


def update(p):
    steps.append(tuple(p.shape))
    optimizers[p].step()
    optimizers[p].zero_grad()


handles = [p.register_post_accumulate_grad_hook(update) for p in net.parameters()]
for _ in range(4):
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    print(loss.item().hex(), [p.grad for p in net.parameters()])
print(len(steps), steps[:4])
for handle in handles:
    handle.remove()
train(torch.optim.SGD(net.parameters(), lr=0.1), 2)
# %% zero-grad: gradients set to None, to zero and by hand, kept in one buffer, and whose memory stays where it is
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.5)
optimizer.zero_grad()
print([p.grad for p in net.parameters()])
flat = torch.zeros(sum(p.numel() for p in net.parameters()))
offset = 0
for p in net.parameters():
    p.grad = flat[offset : offset + p.numel()].view_as(p)
    offset += p.numel()
for _ in range(4):
    optimizer.zero_grad(set_to_none=False)
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    print(loss.item().hex(), flat.norm().item().hex(), net[0].weight.grad.data_ptr() == flat.data_ptr())
net.zero_grad()
print(net[0].weight.grad, flat.abs().sum().item() > 0)
for p in net.parameters():
    p.grad = torch.ones_like(p)
    p.grad.zero_()
optimizer.step()
print(net[0].weight.sum().item().hex())
# %% by-hand: weights are updated by hand, with .data, no_grad, foreach functions and copy_, without any optimiser
parameters = list(net.parameters())
velocity = [torch.zeros_like(p) for p in parameters]
for step in range(6):
    loss = F.cross_entropy(net(x), y)
    if step % 2:
        gradients = torch.autograd.grad(loss, parameters)
    else:
        loss.backward()
        gradients = [p.grad for p in parameters]
    torch._foreach_mul_(velocity, 0.5)
    torch._foreach_add_(velocity, gradients)
    if step < 3:
        with torch.no_grad():
            torch._foreach_add_(parameters, velocity, alpha=-0.1)
    else:
        for p, v in zip(parameters, velocity):
            p.data = p.data - 0.1 * v
    for p in parameters:
        p.grad = None
    print(loss.item().hex(), parameters[0]._version)
# %% functional: the functional forms of SGD and Adam, with lists of states that the script keeps
from torch.optim.adam import adam
from torch.optim.sgd import sgd

parameters = list(net.parameters())
first, second = [torch.zeros_like(p) for p in parameters], [torch.zeros_like(p) for p in parameters]
steps, momenta = [torch.tensor(0.0) for _ in parameters], [None] * len(parameters)
for step in range(5):
    loss = F.cross_entropy(net(x), y)
    gradients = list(torch.autograd.grad(loss, parameters))
    with torch.no_grad():
        if step % 2:
            sgd(parameters, gradients, momenta, weight_decay=0, momentum=0.9, lr=0.1, dampening=0, nesterov=True, maximize=False)
        else:
            adam(
                parameters, gradients, first, second, [], steps,
                amsgrad=False, beta1=0.9, beta2=0.99, lr=0.02, weight_decay=0, eps=1e-8, maximize=False,
            )
    print(loss.item().hex(), steps[0].item(), momenta[0] is not None)
# %% step-hooks: hooks of the script before and after steps, of one optimiser and of all
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

log = []


@torch.no_grad()
def clamp(optimizer, args, kwargs):
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.clamp_(-0.25, 0.25)


one, two = torch.optim.SGD(net[0].parameters(), lr=0.2), torch.optim.Adam(net[2].parameters(), lr=0.02)
handles = [
    register_optimizer_step_pre_hook(lambda o, args, kwargs: log.append(("all before", type(o).__name__))),
    register_optimizer_step_post_hook(lambda o, args, kwargs: log.append(("all after", type(o).__name__, len(args)))),
    one.register_step_pre_hook(lambda o, args, kwargs: log.append("before")),
    one.register_step_post_hook(clamp),
]
for _ in range(3):
    loss = F.cross_entropy(net(x), y)
    net.zero_grad()
    loss.backward()
    one.step()
    two.step()
    print(loss.item().hex(), net[0].weight.abs().max().item().hex())
for handle in handles:
    handle.remove()
train(one, 1)
print(log, len(one._optimizer_step_pre_hooks), len(one._optimizer_step_post_hooks))
# %% scaler: a gradient scaler on the CPU with autocast to bfloat16, which skips a step whose gradients are infinite
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
for step in range(6):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(x)
        loss = F.cross_entropy(out.float(), y)
    scaler.scale(loss).backward()
    if step == 3:
        net[0].weight.grad[0, 0] = float("inf")
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    before = net[0].weight.sum().item()
    scaler.step(optimizer)
    scaler.update()
    print(loss.item().hex(), out.dtype, norm.item(), scaler.get_scale(), before != net[0].weight.sum().item())
# %% clipping: gradients are clipped by norm and by value and accumulated over parts of a batch, and refused if not finite
optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
for step in range(4):
    total = 0
    for part in range(4):
        out = net(x[:, part::4])
        loss = F.cross_entropy(out, y[part::4], reduction="sum") / 16
        loss.backward()
        total += loss.item()
    norm = nn.utils.get_total_norm([p.grad for p in net.parameters()])
    clipped = nn.utils.clip_grad_norm_(net.parameters(), 0.05, norm_type=2.0, error_if_nonfinite=True)
    nn.utils.clip_grad_value_(net.parameters(), 0.01)
    optimizer.step()
    optimizer.zero_grad()
    print(total.hex(), norm.item().hex(), clipped.item().hex())
net[0].weight.grad = torch.full_like(net[0].weight, float("nan"))
try:
    nn.utils.clip_grad_norm_(net.parameters(), 1.0, error_if_nonfinite=True)
except RuntimeError as error:
    print(str(error)[:40])
# %% sam: an optimiser wraps another and takes two passes a step, to where the loss is sharp and back
class SAM(torch.optim.Optimizer):
    def __init__(self, params, base, rho=0.05, **kwargs):
        super().__init__(params, dict(rho=rho, **kwargs))
        self.base = base(self.param_groups, **kwargs)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def step(self, closure=None):
        closure = torch.enable_grad()(closure)
        first = closure()
        norm = torch.stack([p.grad.norm() for g in self.param_groups for p in g["params"]]).norm()
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["shift"] = p.grad * group["rho"] / norm
                p.add_(self.state[p]["shift"])
        self.zero_grad()
        second = closure()
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(self.state[p]["shift"])
        self.base.step()
        self.zero_grad()
        return first, second


def closure():
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    return loss


optimizer = SAM(net.parameters(), torch.optim.SGD, lr=0.2, momentum=0.9)
for _ in range(4):
    first, second = optimizer.step(closure)
    print(first.item().hex(), second.item().hex())
print(len(optimizer.state), len(optimizer.base.state))
# %% lookahead: a wrapper that is no optimiser but behaves as one, with attributes passed on to the one inside
class Lookahead:
    def __init__(self, inner, k=2, alpha=0.5):
        self.inner, self.k, self.alpha, self.count = inner, k, alpha, 0
        self.slow = [[p.detach().clone() for p in group["params"]] for group in inner.param_groups]

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def step(self):
        self.inner.step()
        self.count += 1
        if self.count % self.k == 0:
            for group, slow in zip(self.inner.param_groups, self.slow):
                for p, s in zip(group["params"], slow):
                    s.lerp_(p.detach(), self.alpha)
                    p.data.copy_(s)


optimizer = Lookahead(torch.optim.RMSprop(net.parameters(), lr=0.02, centered=True))
train(optimizer, 6)
print(optimizer.count, len(optimizer.param_groups), len(optimizer.state), isinstance(optimizer, torch.optim.Optimizer))
# %% sparse: embeddings with sparse gradients and SparseAdam, before spiking layers, with another optimiser for the rest
words = torch.randint(0, 50, (4, 16))
embedding = nn.Embedding(50, 12, sparse=True, max_norm=3.0)
bag = nn.EmbeddingBag(50, 3, mode="sum", sparse=True)
sparse = torch.optim.SparseAdam([*embedding.parameters(), *bag.parameters()], lr=0.05)
dense = torch.optim.SGD(net.parameters(), lr=0.2)
for _ in range(5):
    loss = F.cross_entropy(net(embedding(words)) + bag(words.t()), y)
    sparse.zero_grad()
    dense.zero_grad()
    loss.backward()
    sparse.step()
    dense.step()
    print(loss.item().hex(), embedding.weight.grad.is_sparse, embedding.weight.grad._nnz(), bag.weight.grad.layout)
print(embedding.weight.detach().norm().item().hex())
# %% parade: less usual optimisers, one after another, for three steps each
import copy

start = copy.deepcopy(net.state_dict())
for kind, options in (
    (torch.optim.NAdam, {"decoupled_weight_decay": True}),
    (torch.optim.RAdam, {}),
    (torch.optim.Rprop, {"etas": (0.5, 1.2)}),
    (torch.optim.ASGD, {"lr": 0.1, "t0": 1}),
    (torch.optim.Adamax, {}),
    (torch.optim.Adadelta, {"rho": 0.8}),
    (torch.optim.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.1}),
    (torch.optim.Adafactor, {"lr": 0.05}),
):
    net.load_state_dict(start)
    optimizer = kind(net.parameters(), **options)
    print(kind.__name__)
    train(optimizer, 3)
    print(sorted(optimizer.state[net[0].weight]))
matrices = [net[0].weight, net[2].weight]
train(torch.optim.Muon(matrices, lr=0.05), 3)
# %% evolution: weights are found by evolution strategies, without gradients, in inference mode
population, scale = 8, 0.1
parameters = nn.utils.parameters_to_vector(net.parameters()).detach()
generator = torch.Generator().manual_seed(3)


@torch.inference_mode()
def fitness(vector):
    nn.utils.vector_to_parameters(vector, net.parameters())
    return -F.cross_entropy(net(x), y)


for _ in range(5):
    noise = torch.randn(population, len(parameters), generator=generator)
    scores = torch.stack([fitness(parameters + scale * n) for n in noise])
    ranked = scores.argsort().argsort().float() / (population - 1) - 0.5
    parameters = parameters + 0.2 / scale * (ranked @ noise) / population
    print(scores.max().item().hex(), fitness(parameters).item().hex())
print(all(p.grad is None for p in net.parameters()), generator.initial_seed())
# %% forward-gradient: weights follow the directional derivative along a random direction, without a backward pass
from torch.func import functional_call, jvp

net = nn.Sequential(nn.Linear(12, 24), nn.Sigmoid(), nn.Linear(24, 3), Mean())
parameters = {name: p.detach() for name, p in net.named_parameters()}
for _ in range(5):
    direction = {name: torch.randn_like(p) for name, p in parameters.items()}
    loss, slope = jvp(lambda p: F.cross_entropy(functional_call(net, p, (x,)), y), (parameters,), (direction,))
    parameters = {name: p - 0.01 * slope * direction[name] for name, p in parameters.items()}
    print(loss.item().hex(), slope.item().hex())
net.load_state_dict(parameters)
train(torch.optim.SGD(net.parameters(), lr=0.1), 2)
# %% adversarial: two optimisers for two networks that learn against each other, with frozen parts in turns
import snntorch as snn

leaky = snn.Leaky(beta=0.9)
generator, critic = nn.Linear(5, 12), nn.Linear(12, 1)
opt_g, opt_c = torch.optim.Adam(generator.parameters(), lr=0.05), torch.optim.Adam(critic.parameters(), lr=0.05)


def fake(noise):
    mem, total = leaky.init_leaky(), 0
    for frame in noise:
        spk, mem = leaky(2 * generator(frame), mem)
        total = total + spk
    return total / len(noise)


real = x.mean(0)
for _ in range(4):
    noise = torch.randn(4, 16, 5)
    scores = critic(torch.cat([real, fake(noise).detach()]))
    loss_c = F.binary_cross_entropy_with_logits(scores, torch.cat([torch.ones(16, 1), torch.zeros(16, 1)]))
    opt_c.zero_grad()
    loss_c.backward()
    opt_c.step()
    critic.requires_grad_(False)
    loss_g = F.binary_cross_entropy_with_logits(critic(fake(noise)), torch.ones(16, 1))
    opt_g.zero_grad()
    loss_g.backward()
    opt_g.step()
    critic.requires_grad_(True)
    print(loss_c.item().hex(), loss_g.item().hex(), generator.weight.grad.norm().item().hex())
