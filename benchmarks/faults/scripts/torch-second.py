# %% torch/second/conv_stack.py
"""Hand-written convolutional spiking network of blocks; batch first, [batch, step, channel, row, column]."""
from typing import List

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn


class FastSigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.slope = slope
        return u.gt(0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (u,) = ctx.saved_tensors
        return grad / (ctx.slope * u.abs() + 1.0).square(), None


class SpikingBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm = nn.GroupNorm(4, c_out)
        self.leak = 0.75
        self.slope = 4.0

    def forward(self, x: Tensor) -> Tensor:
        b, t = x.shape[:2]
        drive = self.norm(self.conv(x.flatten(0, 1))).unflatten(0, (b, t))
        u = torch.zeros_like(drive[:, 0])
        spikes: List[Tensor] = []
        for k in range(t):
            u = self.leak * u + drive[:, k]
            s = FastSigmoid.apply(u - 1.0, self.slope)
            u = torch.where(s.bool(), torch.zeros_like(u), u)
            spikes.append(s)
        return torch.stack(spikes, 1)


class SpikingNet(nn.Module):
    def __init__(self, steps: int = 4) -> None:
        super().__init__()
        self.steps = steps
        widths = [1, 12, 24, 4]
        self.blocks = nn.ModuleList(SpikingBlock(a, b, 1 if b == 12 else 2) for a, b in zip(widths, widths[1:]))
        self.head = nn.Linear(4 * 4, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = image.unsqueeze(1).repeat(1, self.steps, 1, 1, 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x.float().mean(1).flatten(1))


def batches(x: Tensor, y: Tensor, size: int):
    for rows in torch.randperm(len(y)).split(size):
        yield x[rows], y[rows]


if __name__ == "__main__":
    torch.manual_seed(55)
    digits = load_digits()
    x = torch.tensor(digits.images).float().unsqueeze(1)
    x = (x - x.mean()) / x.std()
    y = torch.tensor(digits.target)
    shuffle = torch.randperm(len(y))
    x, y = x[shuffle], y[shuffle]
    net = SpikingNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for epoch in range(6):
        net.train()
        total = 0.0
        for image, label in batches(x[:1440], y[:1440], 60):
            loss = nn.functional.cross_entropy(net(image), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: {total / 24:.4f}")
    net.eval()
    with torch.inference_mode():
        print("accuracy:", (net(x[1440:]).argmax(1) == y[1440:]).float().mean().item())
# %% torch/second/ema_schedule.py
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset


class Spike(torch.autograd.Function):
    """Heaviside forward, triangle backward."""

    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 0).type_as(v)

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad * F.relu(1 - v.abs())


class LIF(nn.Module):
    def __init__(self, size, tau=3.0, v_th=1.0):
        super().__init__()
        self.decay = nn.Parameter(torch.full((size,), -math.log(math.exp(1 / tau) - 1)))
        self.v_th = v_th

    def forward(self, currents):
        """currents: [steps, batch, size]"""
        v = torch.zeros_like(currents[0])
        out = []
        a = torch.sigmoid(self.decay)
        for i in currents:
            v = a * v + (1 - a) * i
            s = Spike.apply(v - self.v_th)
            v = v * (1 - s.detach())
            out.append(s)
        return torch.stack(out)


class Digits(Dataset):
    def __init__(self, train):
        data = load_digits()
        rows = [i for i in range(1797) if (i % 5 != 0) == train]
        self.x = torch.tensor(data.data[rows], dtype=torch.float32) / 16
        self.y = torch.tensor(data.target[rows])

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class Model(nn.Module):
    def __init__(self, steps=10):
        super().__init__()
        self.steps = steps
        self.fc1, self.lif1 = nn.Linear(64, 128), LIF(128)
        self.bn = nn.BatchNorm1d(128)
        self.fc2, self.lif2 = nn.Linear(128, 64), LIF(64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, x):
        h = self.bn(self.fc1(x)).add(0.5).mul(2)
        s = self.lif1(h.expand(self.steps, -1, -1))
        s = self.lif2(4 * self.fc2(s))
        return self.fc3(s.mean(0) * 4)


class EMA:
    def __init__(self, model, decay=0.95):
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for a, p in zip(self.average.parameters(), model.parameters()):
            a.lerp_(p, 1 - self.decay)
        for a, b in zip(self.average.buffers(), model.buffers()):
            a.copy_(b)


def main():
    torch.manual_seed(21)
    loader = DataLoader(Digits(True), batch_size=64, shuffle=True)
    test = Digits(False)
    model = Model()
    ema = EMA(model)
    epochs = 6
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    total = epochs * len(loader)
    sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda i: min(1, (i + 1) / 20) * 0.5 * (1 + math.cos(math.pi * i / total)))
    for epoch in range(epochs):
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            sched.step()
            ema.update(model)
    ema.average.eval()
    with torch.no_grad():
        acc = (ema.average(test.x).argmax(1) == test.y).float().mean().item()
    print(f"averaged model: {acc:.4f}")


if __name__ == "__main__":
    main()
# %% torch/second/first_spike.py
"""Exact spike times of non-leaky neurons (no surrogate at all): z = exp(t), loss on the first spike."""
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(19)
LATE = 1e3


def first_spikes(z_in, weight):
    """Spike times in the z domain of neurons with exponential synapses and threshold 1."""
    order = z_in.argsort(1)
    z = z_in.gather(1, order)
    w = weight[order]
    total = w.cumsum(1)
    weighted = (w * z.unsqueeze(2)).cumsum(1)
    z_out = weighted / (total - 1).clamp(min=1e-6)
    following = torch.cat([z[:, 1:], torch.full_like(z[:, :1], LATE)], 1).unsqueeze(2)
    valid = (total > 1) & (z_out <= following) & (z_out >= z.unsqueeze(2))
    return torch.where(valid, z_out, torch.full_like(z_out, LATE)).min(1).values


class TimeNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Parameter(torch.rand(64, 60) * 0.14)
        self.output = nn.Parameter(torch.rand(60, 10) * 0.15)

    def forward(self, x):
        z = torch.exp(1.8 * (1 - x))
        return first_spikes(first_spikes(z, self.hidden), self.output)

    def penalty(self):
        return sum(torch.relu(1.1 - w.sum(0)).mean() for w in (self.hidden, self.output))


x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
p = torch.randperm(1797)
fit, held = p[:1200], p[1200:]
net = TimeNetwork()
optimizer = torch.optim.Adam(net.parameters(), lr=8e-3)
for epoch in range(8):
    for rows in fit[torch.randperm(1200)].split(40):
        z = net(x[rows])
        loss = nn.functional.cross_entropy(-4 * torch.log(z.clamp(1e-3, LATE)), y[rows]) + 10 * net.penalty()
        optimizer.zero_grad()
        loss.backward()
        for w in net.parameters():
            w.grad.nan_to_num_(0, 0, 0).clamp_(-1, 1)
        optimizer.step()
with torch.no_grad():
    print("accuracy", (net(x[held]).argmin(1) == y[held]).float().mean().item())
# %% torch/second/local_losses.py
"""Layers with losses of their own: what goes on to the next layer is detached, on purpose."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(18)


def spike(v):
    soft = torch.sigmoid(5 * v)
    return (v > 0).float() + soft - soft.detach()


class LocalLayer(nn.Module):
    def __init__(self, n_in, n_out, lr):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.local_head = nn.Linear(n_out, 10)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=lr)
        self.v = None

    def reset(self):
        self.v = None

    def forward(self, x):
        drive = self.linear(x)
        v = drive if self.v is None else 0.8 * self.v + drive
        s = spike(v - 0.7)
        self.v = v.detach() * (1 - s.detach())
        return s


x, y = load_digits(return_X_y=True)
x = torch.tensor(x).float() / 16
y = torch.tensor(y)
mix = torch.randperm(len(y))
x, y = x[mix], y[mix]
layers = [LocalLayer(64, 128, 2e-3), LocalLayer(128, 96, 2e-3)]


def present(batch, label=None, steps=6):
    vote = 0
    for layer in layers:
        layer.reset()
    for _ in range(steps):
        h = batch
        for layer in layers:
            s = layer(h)
            guess = layer.local_head(s)
            if label is not None:
                loss = F.cross_entropy(guess, label)
                layer.optimizer.zero_grad()
                loss.backward()
                layer.optimizer.step()
            h = s.detach()
        vote = vote + guess.detach()
    return vote


for epoch in range(5):
    for i in range(0, 1440, 48):
        present(x[i : i + 48], y[i : i + 48])
with torch.no_grad():
    print("accuracy", (present(x[1440:]).argmax(1) == y[1440:]).float().mean().item())
# %% torch/second/manual_sgd.py
"""No modules, no optimiser: a dictionary of tensors, LIF neurons as a function and SGD by hand."""
import torch
from sklearn.datasets import load_digits

torch.manual_seed(4)


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u > 0).float()

    @staticmethod
    def backward(ctx, g):
        (u,) = ctx.saved_tensors
        return g / (1 + 5 * u.abs()) ** 2


fire = Step.apply
x, y = load_digits(return_X_y=True)
x = torch.tensor(x / 16, dtype=torch.float32)
y = torch.tensor(y)
k = torch.randperm(1797)
x_train, y_train, x_test, y_test = x[k[:1400]], y[k[:1400]], x[k[1400:]], y[k[1400:]]

w = {
    "in": torch.randn(64, 100) / 8 * 2,
    "b": torch.zeros(100),
    "out": torch.randn(100, 10) / 10,
}
for tensor in w.values():
    tensor.requires_grad_(True)


def network(batch, steps=10, decay=0.85, threshold=1.0):
    u = torch.zeros(len(batch), 100)
    o = torch.zeros(len(batch), 10)
    current = batch @ w["in"] + w["b"]
    for _ in range(steps):
        u = decay * u + current
        s = fire(u - threshold)
        u = u - threshold * s.detach()
        o = 0.95 * o + s @ w["out"]
    return o / steps


lr = 0.3
for epoch in range(8):
    for i in range(0, 1400, 35):
        loss = torch.nn.functional.cross_entropy(network(x_train[i : i + 35]), y_train[i : i + 35])
        loss.backward()
        with torch.no_grad():
            for tensor in w.values():
                tensor -= lr * tensor.grad
                tensor.grad.zero_()
    print("epoch %d, loss %.4f" % (epoch, loss))

with torch.no_grad():
    print("accuracy %.4f" % (network(x_test).argmax(1) == y_test).float().mean())
# %% torch/second/recurrent_sums.py
# Recurrent spiking net with soft reset. Task: is the sum of the marked values in a sequence high, middle or low?
import numpy as np, torch
from torch import nn

rng = np.random.default_rng(13)
torch.manual_seed(13)
L = 20

def make(n):
    v = rng.random((n, L)).astype('f4')
    m = np.zeros((n, L), 'f4')
    for r in range(n):
        m[r, rng.choice(L, 4, replace=False)] = 1
    s = (v * m).sum(1)
    return torch.from_numpy(np.stack([v, m, v * m], 2)), torch.from_numpy(np.digitize(s, [1.65, 2.35]))

class ATan(torch.autograd.Function):
    alpha = 2.0
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.heaviside(x, torch.ones(()))
    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return g * ATan.alpha / 2 / (1 + (torch.pi / 2 * ATan.alpha * x) ** 2)

class RSNN(nn.Module):
    def __init__(self, n=64, beta=0.9, thr=1.0):
        super().__init__()
        self.inp = nn.Linear(3, n); self.rec = nn.Linear(n, n, bias=False); self.out = nn.Linear(n, 3)
        nn.init.orthogonal_(self.rec.weight, gain=0.2)
        nn.init.uniform_(self.inp.weight, -1.5, 1.5)
        self.beta, self.thr = beta, thr

    def forward(self, seq):
        mem = seq.new_zeros(len(seq), self.rec.in_features)
        spk = torch.zeros_like(mem)
        acc = 0
        for t in range(seq.shape[1]):
            reset = (spk * self.thr).detach()
            mem = self.beta * mem + self.inp(seq[:, t]) + self.rec(spk) - reset
            spk = ATan.apply(mem - self.thr)
            acc = acc + spk
        return self.out(acc / 4)

xtr, ytr = make(1600); xte, yte = make(400)
net = RSNN(); opt = torch.optim.Adam(net.parameters(), lr=5e-3); ce = nn.CrossEntropyLoss()
for ep in range(12):
    for i in torch.randperm(1600).chunk(25):
        opt.zero_grad(); l = ce(net(xtr[i]), ytr[i]); l.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
    if ep % 4 == 3: print(ep, l.item())
with torch.no_grad():
    print('score', (net(xte).argmax(1) == yte).float().mean().item())
# %% torch/second/reservoir.py
"""A fixed spiking reservoir; only its linear readout is trained (frozen weights on purpose)."""
import torch
from sklearn.datasets import load_digits

torch.manual_seed(2)
N, REPEATS = 400, 3

digits = load_digits()
rows = torch.tensor(digits.images, dtype=torch.float32) / 16
target = torch.tensor(digits.target)

w_in = torch.randn(8, N) * 0.9
w = torch.randn(N, N) * (torch.rand(N, N) < 0.05)
w *= 0.7 / torch.linalg.eigvals(w).abs().max()
tau = torch.rand(N) * 0.5 + 0.45


@torch.no_grad()
def liquid(images):
    v, s, trace = (torch.zeros(len(images), N) for _ in range(3))
    states = []
    for r in range(8):
        for _ in range(REPEATS):
            v = tau * v * (1 - s) + images[:, r] @ w_in + s @ w
            s = (v > 1).float()
            trace = 0.9 * trace + s
        states.append(trace[:, : N // 4])
    states.append(trace)
    return torch.cat(states, 1)


features = liquid(rows)
features = (features - features.mean(0)) / (features.std(0) + 1)
order = torch.randperm(1797)
fit, held = order[:1400], order[1400:]

readout = torch.nn.Linear(features.shape[1], 10)
optimizer = torch.optim.Adam(readout.parameters(), lr=1e-3, weight_decay=1e-3)
for epoch in range(12):
    for pick in fit[torch.randperm(1400)].split(50):
        loss = torch.nn.functional.cross_entropy(readout(features[pick]), target[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
with torch.no_grad():
    print("accuracy", (readout(features[held]).argmax(1) == target[held]).float().mean().item())
