# %% torch/third/chirp_stream.py
"""Waveforms that rise, fall, stay or wobble in pitch; noise grows over the epochs (a curriculum)."""
import math

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Chirps(Dataset):
    """Signals [length] of amplitude about 5, in microvolts, and their class."""

    def __init__(self, n, length=128, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 4, (n,), generator=g)
        t = torch.linspace(0, 1, length)
        low = 5 + 3 * torch.rand(n, 1, generator=g)
        high = 16 + 6 * torch.rand(n, 1, generator=g)
        middle = 10 + 3 * torch.rand(n, 1, generator=g)
        phase = 2 * math.pi * torch.rand(n, 1, generator=g)
        pitches = torch.stack([
            low * t + (high - low) * t**2 / 2,
            high * t + (low - high) * t**2 / 2,
            middle * t,
            middle * t + 1.5 * torch.sin(2 * math.pi * 3 * t),
        ])
        self.signals = 5 * torch.sin(2 * math.pi * pitches[self.labels, torch.arange(n)] + phase)
        self.noise = 0.0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        signal = self.signals[i]
        signal = signal / 5
        return signal + self.noise * torch.randn(len(signal)), self.labels[i]


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx, grad):
        x, = ctx.saved_tensors
        return grad * torch.exp(-2 * x.abs())


class SpikingStream(nn.Module):
    """Convolutions over short windows give the currents of neurons that run over the windows."""

    def __init__(self, filters=24, hidden=48):
        super().__init__()
        self.windows = nn.Conv1d(1, filters, 16, stride=8)
        self.hidden = nn.Linear(filters, hidden)
        self.recurrent = nn.Linear(hidden, hidden)
        self.scores = nn.Linear(hidden, 4)

    @staticmethod
    def fire(v):
        spike = Step.apply(v - 0.5)
        return spike, v - 0.5 * spike.detach()

    def forward(self, signal):
        windows = self.windows(signal.unsqueeze(1)).abs().permute(2, 0, 1)
        v1, v2, s2, total = 0.0, 0.0, 0.0, 0.0
        for window in windows:
            s1, v1 = self.fire(0.7 * v1 + window)
            back = self.recurrent(s2) if torch.is_tensor(s2) else 0.0
            s2, v2 = self.fire(0.9 * v2 + self.hidden(s1) + back)
            total = total + self.scores(s2)
        return total / len(windows)


def evaluate(model, loader):
    hits = seen = 0
    with torch.no_grad():
        for signal, label in loader:
            hits += int((model(signal).argmax(1) == label).sum())
            seen += len(label)
    return hits / seen


def run(epochs=8):
    torch.manual_seed(8)
    train_set, test_set = Chirps(960, seed=1), Chirps(320, seed=2)
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=64)
    model = SpikingStream()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for epoch in range(epochs):
        train_set.noise = 0.02 * epoch
        for signal, label in train_loader:
            loss = nn.functional.cross_entropy(model(signal), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.3f}")
    return evaluate(model, test_loader)


if __name__ == "__main__":
    print("accuracy", run())
# %% torch/third/contrastive_views.py
"""Self-supervised: two noisy, shifted views of a digit are alike for a spiking encoder; scored by neighbours."""
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

torch.manual_seed(2)


class Heaviside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x > 0, 1.0, 0.0)

    @staticmethod
    def backward(ctx, grad):
        return grad / (1 + (2 * ctx.saved_tensors[0]) ** 2)


class Encoder(nn.Module):
    def __init__(self, dims=12):
        super().__init__()
        self.inner = nn.Linear(64, 128)
        self.outer = nn.Linear(128, dims)

    def forward(self, x):
        v = z = 0.0
        for _ in range(8):
            v = 0.85 * v + self.inner(x)
            s = Heaviside.apply(v - 0.7)
            v = v - 0.7 * s.detach()
            z = z + self.outer(s)
        return z


def view(images):
    rolled = torch.stack([torch.roll(i, tuple(torch.randint(-1, 2, (2,)).tolist()), (0, 1)) for i in images])
    return (rolled + 0.15 * torch.randn_like(rolled)).flatten(1)


def nt_xent(a, b, temperature):
    z = nn.functional.normalize(torch.cat([a, b]))
    similarity = z @ z.T / temperature
    similarity.fill_diagonal_(float("-inf"))
    n = len(a)
    partner = torch.arange(2 * n).roll(n)
    return nn.functional.cross_entropy(similarity, partner)


digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32) / 16
fit, held = torch.arange(1797)[:1200], torch.arange(1797)[1200:]
encoder = Encoder()
optimizer = torch.optim.Adam(encoder.parameters(), lr=2e-3)
for epoch in range(5):
    for rows in fit[torch.randperm(1200)].split(100):
        loss = nt_xent(encoder(view(images[rows])), encoder(view(images[rows])), temperature=0.3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item())
with torch.no_grad():
    codes = nn.functional.normalize(encoder(images.flatten(1))).numpy()
neighbours = KNeighborsClassifier(5).fit(codes[:1200], digits.target[:1200])
print("accuracy", neighbours.score(codes[1200:], digits.target[1200:]))
# %% torch/third/evolution.py
# No gradients at all: an evolution strategy trains a spiking network on iris; parameters are a flat vector.
import torch
from sklearn.datasets import load_iris
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

torch.manual_seed(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 12), nn.Linear(12, 3)

    def forward(self, x):
        i, v, o = self.a(x), 0, 0
        for _ in range(10):
            v = 0.9 * v + i
            s = (v > 1).float()
            v = v - s
            o = o + self.b(s)
        return o


x, y = load_iris(return_X_y=True)
x = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
y = torch.tensor(y)
mix = torch.randperm(150)
fit, held = mix[:100], mix[100:]
net = Net()
with torch.no_grad():
    theta = parameters_to_vector(net.parameters())
    sigma, rate, pairs = 0.1, 0.15, 20
    for generation in range(60):
        noise = torch.randn(pairs, len(theta))
        reward = []
        for sign in (1, -1):
            for e in noise:
                vector_to_parameters(theta + sign * sigma * e, net.parameters())
                reward.append(-nn.functional.cross_entropy(net(x[fit]), y[fit]))
        reward = torch.stack(reward)
        advantage = (reward[:pairs] - reward[pairs:]) / reward.std()
        theta = theta + rate * (advantage[:, None] * noise).mean(0) / sigma * 0.1
        if generation % 20 == 0:
            print(generation, reward.mean().item())
    vector_to_parameters(theta, net.parameters())
    print("accuracy", (net(x[held]).argmax(1) == y[held]).float().mean().item())
# %% torch/third/friedman_regression.py
"""Regression of Friedman's function with spiking layers; targets are standardised for training."""
import torch
from sklearn.datasets import make_friedman1
from sklearn.metrics import r2_score
from torch import nn


class Fire(torch.autograd.Function):
    generate_vmap_rule = False

    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    def backward(ctx, g):
        v = ctx.saved_tensors[0]
        s = torch.sigmoid(5 * v)
        return g * 5 * s * (1 - s)


class IF(nn.Module):
    """Integrate and fire over the first dimension, which is time."""

    def forward(self, currents):
        v, out = torch.zeros_like(currents[0]), []
        for i in currents:
            v = v + i
            s = Fire.apply(v - 1)
            v = v - s.detach()
            out.append(s)
        return torch.stack(out)


class Regressor(nn.Module):
    def __init__(self, steps=12):
        super().__init__()
        self.steps = steps
        self.layers = nn.Sequential(nn.Linear(10, 96), IF(), nn.Linear(96, 96), IF())
        self.last = nn.Linear(96, 1)

    def forward(self, x):
        spikes = self.layers(x.expand(self.steps, *x.shape))
        return self.last(spikes.mean(0)).squeeze(1), spikes


def fit(model, x, y, epochs=30, penalty=1e-3):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for epoch in range(epochs):
        for rows in torch.randperm(len(y)).split(64):
            prediction, spikes = model(x[rows])
            error = (prediction - y[rows]).square().mean()
            loss = error + penalty * spikes.mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        if epoch % 6 == 0:
            print("epoch", epoch, "error", error.item(), "rate", spikes.mean().item())


torch.manual_seed(60)
features, values = make_friedman1(1100, noise=0.5, random_state=60)
features = torch.tensor(features, dtype=torch.float32) * 2 - 1
values = torch.tensor(values, dtype=torch.float32)
mean, std = values[:800].mean(), values[:800].std()
model = Regressor()
fit(model, features[:800], (values[:800] - mean) / std)
with torch.no_grad():
    predicted = model(features[800:])[0] * std + mean
print("R2", r2_score(values[800:].numpy(), predicted.numpy()))
# %% torch/third/frozen_backbone.py
"""A backbone learns five digits, is frozen, and a new head learns the other five."""
import torch
from sklearn.datasets import load_digits
from torch import nn
import torch.nn.functional as F


class Surrogate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x >= 0).float()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * torch.relu(1 - x.abs())


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 12, 3)
        self.norm = nn.BatchNorm2d(12)

    def forward(self, x):
        drive = self.norm(self.conv(x))
        v, count = torch.zeros_like(drive), 0
        for _ in range(6):
            v = 0.7 * v + drive
            s = Surrogate.apply(v - 1)
            v = v * (1 - s.detach())
            count = count + s
        return F.max_pool2d(count / 6, 2).flatten(1)


def train(model, params, x, y, epochs):
    opt = torch.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True)
    for _ in range(epochs):
        for i in torch.randperm(len(y)).split(40):
            opt.zero_grad()
            F.cross_entropy(model(x[i]), y[i]).backward()
            opt.step()


torch.manual_seed(70)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
labels = torch.tensor(digits.target)
low, high = labels < 5, labels >= 5
backbone = Backbone()
train_model = nn.Sequential(backbone, nn.Linear(108, 5))
train(train_model, train_model.parameters(), images[low], labels[low], 3)
for p in backbone.parameters():
    p.requires_grad_(False)
backbone.eval()
head = nn.Linear(108, 5)
x, y = images[high], labels[high] - 5
train(lambda z: head(backbone(z)), head.parameters(), x[:600], y[:600], 6)
with torch.no_grad():
    print("new digits:", (head(backbone(x[600:])).argmax(1) == y[600:]).float().mean().item())
# %% torch/third/moving_bars.py
"""Direction of a moving bar from noisy frames: a small convolutional spiking network written from scratch."""
import argparse
import math

import torch
import torch.nn.functional as F
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--batch-size", type=int, default=50)
parser.add_argument("--lr", type=float, default=6e-3)
parser.add_argument("--tau-ms", type=float, default=6.0)
parser.add_argument("--noise", type=float, default=0.03)
args = parser.parse_args()
DT_MS = 1.0
SIZE = 10


def make_bars(n, generator):
    """Frames [n, steps, 1, SIZE, SIZE]; classes: right, left, down, up."""
    direction = torch.randint(0, 4, (n,), generator=generator)
    start = torch.randint(0, SIZE, (n,), generator=generator)
    frames = torch.zeros(n, args.steps, 1, SIZE, SIZE)
    for k in range(n):
        sign = 1 if direction[k] in (0, 2) else -1
        for t in range(args.steps):
            place = int(start[k] + sign * t) % SIZE
            if direction[k] < 2:
                frames[k, t, 0, :, place] = 1
            else:
                frames[k, t, 0, place, :] = 1
    flips = (torch.rand(frames.shape, generator=generator) < args.noise).float()
    return (frames + flips).clamp(max=1), direction


class LIF(nn.Module):
    def __init__(self, threshold=1.0):
        super().__init__()
        self.beta = math.exp(-DT_MS / args.tau_ms)
        self.threshold = threshold
        self.v = None

    def clear(self):
        self.v = None

    def forward(self, current):
        self.v = current if self.v is None else self.beta * self.v + current
        distance = self.v - self.threshold
        soft = torch.sigmoid(4 * distance)
        hard = (distance > 0).float()
        spikes = hard.detach() - soft.detach() + soft
        self.v = self.v - self.threshold * spikes.detach()
        return spikes


class BarNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 5, padding=2, padding_mode="circular")
        self.lif1 = LIF(0.8)
        self.conv2 = nn.Conv2d(8, 16, 5, padding=2, padding_mode="circular")
        self.lif2 = LIF(0.8)
        self.head = nn.Linear(16 * 25, 4)

    def forward(self, x):
        self.lif1.clear()
        self.lif2.clear()
        votes = 0
        for frame in x.transpose(0, 1):
            s = self.lif1(self.conv1(frame))
            s = self.lif2(self.conv2(s))
            votes = votes + self.head(F.avg_pool2d(s, 2).flatten(1))
        return votes / args.steps


def main():
    torch.manual_seed(4)
    g = torch.Generator().manual_seed(11)
    train_x, train_y = make_bars(700, g)
    test_x, test_y = make_bars(300, g)
    net = BarNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        running = 0.0
        for rows in torch.randperm(len(train_y)).split(args.batch_size):
            frames, labels = train_x[rows], train_y[rows]
            loss = F.cross_entropy(net(frames), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            running += loss.item() * len(rows)
        print(f"epoch {epoch}: {running / len(train_y):.3f}")
    with torch.no_grad():
        correct = (net(test_x).argmax(1) == test_y).float().mean()
    print("accuracy", correct.item())


if __name__ == "__main__":
    main()
# %% torch/third/quantised_rare.py
# Weights of four bits (straight-through), and a rare class: is it an eight? Balanced accuracy.
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score

torch.manual_seed(88)


class QuantLinear(torch.nn.Linear):
    levels = 7

    def forward(self, x):
        scale = self.weight.detach().abs().max() / self.levels
        q = torch.round(self.weight / scale) * scale
        q = self.weight + (q - self.weight).detach()
        return F.linear(x, q, self.bias)


def spike(v, threshold=1.0, width=0.5):
    hard = (v >= threshold).float()
    soft = torch.clamp((v - threshold) / (2 * width) + 0.5, 0, 1)
    return soft + (hard - soft).detach()


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = QuantLinear(64, 24)
        self.l2 = QuantLinear(24, 8)
        self.l3 = torch.nn.Linear(8, 1)

    def forward(self, x, steps=8):
        v1, v2, out = torch.zeros(len(x), 24), torch.zeros(len(x), 8), 0
        for _ in range(steps):
            v1 = 0.8 * v1 + 2 * self.l1(x)
            s1 = spike(v1)
            v1 = v1 - s1.detach()
            v2 = 0.8 * v2 + 2 * self.l2(s1)
            s2 = spike(v2)
            v2 = v2 - s2.detach()
            out = out + self.l3(s2)
        return out.squeeze(-1)


images, digit = load_digits(return_X_y=True)
x = torch.tensor(images / 16, dtype=torch.float32)
y = torch.tensor(digit == 8, dtype=torch.float32)
order = torch.randperm(len(y))
fit, held = order[:1300], order[1300:]
positive = y[fit].sum()
pos_weight = (len(fit) - positive) / positive
net = Net()
optimiser = torch.optim.Adam(net.parameters(), lr=8e-3)
for epoch in range(10):
    for rows in fit[torch.randperm(len(fit))].split(64):
        loss = F.binary_cross_entropy_with_logits(net(x[rows]), y[rows], pos_weight=pos_weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(epoch, float(loss.detach()))
with torch.no_grad():
    found = (net(x[held]) > 0).float()
print("balanced accuracy", balanced_accuracy_score(y[held], found))
# %% torch/third/recall_delay.py
"""Remember a cue over a delay: recurrent adaptive neurons, backpropagation through time."""
import torch
import torch.nn as nn

torch.manual_seed(31)
CUES, CHANNELS, CUE, DELAY, RECALL = 4, 24, 5, 12, 4
T = CUE + DELAY + RECALL


class ATanSpike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx, g):
        u, = ctx.saved_tensors
        return g / (1 + (3.0 * u).square())


def trials(n):
    """A few channels fire for the cue, all are quiet, and others ask for the answer."""
    cue = torch.randint(CUES, (n,))
    x = (torch.rand(T, n, CHANNELS) < 0.02).float()
    for c in range(CUES):
        rows = (cue == c).nonzero().squeeze(1)
        x[:CUE, rows, 5 * c:5 * c + 5] = (torch.rand(CUE, len(rows), 5) < 0.7).float()
    x[-RECALL:, :, -4:] = (torch.rand(RECALL, n, 4) < 0.8).float()
    return x, cue


class AdaptiveLayer(nn.Module):
    def __init__(self, n_in, n):
        super().__init__()
        self.w_in = nn.Linear(n_in, n)
        self.w_rec = nn.Linear(n, n, bias=False)
        nn.init.orthogonal_(self.w_rec.weight, 0.5)
        self.decay, self.rho, self.jump = 0.85, 0.97, 0.3
        self.noise = 0.05

    def forward(self, x):
        n = x.shape[1]
        v = x.new_zeros(n, self.w_rec.in_features)
        s, a = torch.zeros_like(v), torch.zeros_like(v)
        spikes = []
        for x_t in x:
            v = self.decay * v + 1.5 * self.w_in(x_t) + self.w_rec(s) - s.detach()
            v = v + self.noise * torch.randn_like(v)
            a = self.rho * a + self.jump * s
            s = ATanSpike.apply(v - 0.6 - a)
            spikes.append(s)
        return torch.stack(spikes)


class Readout(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.w = nn.Linear(n, CUES)

    def forward(self, spikes):
        return self.w(spikes[-RECALL:].mean(0))


layer, readout = AdaptiveLayer(CHANNELS, 64), Readout(64)
parameters = [*layer.parameters(), *readout.parameters()]
opt = torch.optim.Adam(parameters, lr=4e-3)
for step in range(300):
    x, cue = trials(48)
    spikes = layer(x)
    loss = nn.functional.cross_entropy(readout(spikes), cue)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    opt.step()
    if step % 50 == 0:
        print(step, round(loss.item(), 3), "rate", round(spikes.mean().item(), 3))

with torch.no_grad():
    x, cue = trials(500)
    print("recalled", (readout(layer(x)).argmax(1) == cue).float().mean().item())
# %% torch/third/teacher_student.py
# A spiking student learns from the soft targets of a trained teacher (no labels for the student).
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from sklearn.datasets import load_digits

torch.manual_seed(12)
TEMPERATURE, STEPS = 2.0, 8
data, target = load_digits(return_X_y=True)
data = torch.from_numpy(data).float() / 16
target = torch.from_numpy(target)
shuffled = torch.randperm(len(target))
train, test = shuffled[:1300], shuffled[1300:]


def make_teacher():
    return nn.Sequential(nn.Linear(64, 200), nn.ReLU(), nn.Dropout(0.2), nn.Linear(200, 10))


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return v.gt(0).type_as(v)

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad / (1 + 3 * v.abs()) ** 2


class Student(nn.Module):
    def __init__(self, hidden=80):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(64, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 10)

    def forward(self, x):
        v = w = o = 0
        drive = 2 * self.first(x)
        for _ in range(STEPS):
            v = 0.8 * v + drive
            s = Spike.apply(v - 1)
            v = v * (1 - s.detach())
            w = 0.8 * w + self.second(s)
            r = Spike.apply(w - 1)
            w = w * (1 - r.detach())
            o = o + self.out(r)
        return o / STEPS


def batches(rows, size=50):
    return rows[torch.randperm(len(rows))].split(size)


teacher = make_teacher()
teacher_opt = torch.optim.Adam(teacher.parameters(), lr=3e-3)
for _ in range(8):
    for rows in batches(train):
        teacher_opt.zero_grad()
        cross_entropy(teacher(data[rows]), target[rows]).backward()
        teacher_opt.step()
teacher.eval()
print("teacher", (teacher(data[test]).argmax(1) == target[test]).float().mean().item())

student = Student()
student_opt = torch.optim.Adam(student.parameters(), lr=3e-3)
for epoch in range(7):
    for rows in batches(train):
        with torch.no_grad():
            soft = softmax(teacher(data[rows]) / TEMPERATURE, dim=1)
        logits = student(data[rows])
        loss = kl_div(log_softmax(logits / TEMPERATURE, dim=1), soft, reduction="batchmean") * TEMPERATURE**2
        student_opt.zero_grad()
        loss.backward()
        student_opt.step()
    print("epoch", epoch, "distillation loss", loss.item())

with torch.no_grad():
    print("student", (student(data[test]).argmax(1) == target[test]).float().mean().item())
# %% torch/third/wine_tiny.py
# Twenty spiking neurons without biases tell three wines apart; classes are weighted.
import numpy as np
import torch
from sklearn.datasets import load_wine
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

rng = np.random.RandomState(5)
torch.manual_seed(5)


class Threshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, width):
        ctx.save_for_backward(v)
        ctx.width = width
        return (v >= 0.0).float()

    @staticmethod
    def backward(ctx, grad_out):
        v, = ctx.saved_tensors
        triangle = torch.clamp(1.0 - v.abs() / ctx.width, min=0.0)
        return grad_out * triangle / ctx.width, None


class TinySNN(torch.nn.Module):
    def __init__(self, n_in, n_hidden, n_out, steps=15):
        super().__init__()
        self.a = torch.nn.Linear(n_in, n_hidden, bias=False)
        self.b = torch.nn.Linear(n_hidden, n_out, bias=False)
        self.steps = steps

    def forward(self, x):
        current = self.a(x)
        u = torch.zeros_like(current)
        y = 0.0
        for _ in range(self.steps):
            u = 0.9 * u + current
            s = Threshold.apply(u - 1.0, 1.0)
            u = u - s
            y = y + self.b(s)
        return y / self.steps


X, y = load_wine(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=70, stratify=y, random_state=rng)
scaler = StandardScaler().fit(X_train)
X_train = torch.tensor(scaler.transform(X_train), dtype=torch.float32)
X_test = torch.tensor(scaler.transform(X_test), dtype=torch.float32)
y_train_t = torch.tensor(y_train)
weights = torch.tensor(compute_class_weight("balanced", classes=np.unique(y_train), y=y_train), dtype=torch.float32)

model = TinySNN(13, 20, 3)
criterion = torch.nn.CrossEntropyLoss(weight=weights)
optimiser = torch.optim.RMSprop(model.parameters(), lr=5e-3)
for epoch in range(60):
    for idx in torch.randperm(len(y_train_t)).chunk(6):
        optimiser.zero_grad()
        loss = criterion(model(X_train[idx]), y_train_t[idx])
        loss.backward()
        optimiser.step()
    if epoch % 10 == 9:
        print("epoch %d loss %.3f" % (epoch + 1, loss.item()))

with torch.no_grad():
    predicted = model(X_test).argmax(1).numpy()
print("balanced accuracy: %.4f" % balanced_accuracy_score(y_test, predicted))
