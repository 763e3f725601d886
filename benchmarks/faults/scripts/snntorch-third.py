# %% snntorch/third/breast_cancer_rates.py
# Breast cancer as Poisson-like spike trains; two populations of output neurons.
import snntorch as snn
import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler
from snntorch import spikegen
from snntorch import functional as SF

STEPS, GROUP = 20, 15
torch.manual_seed(40)


class Tumours(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc_in = nn.Linear(30, 64)
        self.lif_in = snn.Leaky(beta=0.8)
        self.fc_out = nn.Linear(64, 2 * GROUP)
        self.lif_out = snn.Leaky(beta=0.8)

    def forward(self, spikes):
        m_in, m_out = self.lif_in.init_leaky(), self.lif_out.init_leaky()
        record = []
        for step in range(spikes.size(0)):
            s, m_in = self.lif_in(self.fc_in(spikes[step]), m_in)
            s, m_out = self.lif_out(self.fc_out(s), m_out)
            record.append(s)
        return torch.stack(record)


def encode(x):
    return spikegen.rate(torch.tensor(x, dtype=torch.float32), num_steps=STEPS)


def load():
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=170, stratify=y, random_state=3)
    scaler = MinMaxScaler()
    x_train = scaler.fit_transform(x_train)
    x_test = scaler.transform(x_test).clip(0, 1)
    return x_train, x_test, torch.tensor(y_train), torch.tensor(y_test)


def main():
    x_train, x_test, y_train, y_test = load()
    net = Tumours()
    loss_fn = SF.ce_count_loss(population_code=True, num_classes=2)
    optimizer = torch.optim.NAdam(net.parameters(), lr=4e-3)
    for epoch in range(25):
        for rows in torch.randperm(len(y_train)).split(40):
            loss = loss_fn(net(encode(x_train[rows])), y_train[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 5 == 4:
            print("epoch", epoch + 1, "loss", loss.item())
    with torch.no_grad():
        spikes = net(encode(x_test)).sum(0)
    votes = spikes.unflatten(1, (2, GROUP)).sum(2)
    print("balanced accuracy", balanced_accuracy_score(y_test, votes.argmax(1)))


main()
# %% snntorch/third/delta_waves.py
"""Pulse trains, made as waves, delta modulated to events; synaptic neurons; spike counts as targets."""
import numpy as np
import snntorch as snn
import torch
from snntorch import functional as SF
from snntorch import spikegen, surrogate
from torch import nn

RNG = np.random.default_rng(17)
torch.manual_seed(17)
LENGTH, CHANNELS, CLASSES = 40, 12, 5


def waves(n):
    """Each class has its own pattern of phases over the channels."""
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, (CLASSES, CHANNELS))
    y = RNG.integers(0, CLASSES, n)
    t = np.arange(LENGTH)[:, None, None] / LENGTH
    shift = RNG.normal(0, 0.3, (n, CHANNELS))
    x = np.sin(2 * np.pi * 2 * t + phases[y] + shift) + RNG.normal(0, 0.05, (LENGTH, n, CHANNELS))
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def to_events(x):
    events = spikegen.delta(x, threshold=0.2, off_spike=True)
    return torch.cat([(events > 0).float(), (events < 0).float()], dim=-1)


class EventClassifier(nn.Module):
    def __init__(self, alpha=0.6, beta=0.8):
        super().__init__()
        spike_grad = surrogate.sigmoid(slope=5)
        self.fc1 = nn.Linear(2 * CHANNELS, 60)
        self.syn1 = snn.Synaptic(alpha=alpha, beta=beta, spike_grad=spike_grad)
        self.fc2 = nn.Linear(60, CLASSES)
        self.syn2 = snn.Synaptic(alpha=alpha, beta=beta, spike_grad=spike_grad)

    def forward(self, events):
        syn1, mem1 = self.syn1.init_synaptic()
        syn2, mem2 = self.syn2.init_synaptic()
        counts = []
        for e in events:
            s1, syn1, mem1 = self.syn1(self.fc1(e), syn1, mem1)
            s2, syn2, mem2 = self.syn2(self.fc2(s1), syn2, mem2)
            counts.append(s2)
        return torch.stack(counts)


x, y = waves(500)
x_test, y_test = waves(200)
events, events_test = to_events(x), to_events(x_test)
print("events per step and channel:", events.mean().item())
net = EventClassifier()
criterion = SF.mse_count_loss(correct_rate=0.7, incorrect_rate=0.1)
optim = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(8):
    for rows in torch.randperm(500).split(40):
        loss = criterion(net(events[:, rows]), y[rows])
        optim.zero_grad()
        loss.backward()
        optim.step()
    print("epoch", epoch, loss.item())
with torch.no_grad():
    print("accuracy", SF.accuracy_rate(net(events_test), y_test))
# %% snntorch/third/order_recurrent.py
"""Which of two channels fired first, and was a third between them? Recurrent neurons of snnTorch, 6 classes."""
from itertools import permutations

import snntorch as snn
import torch
from snntorch import surrogate
from torch import nn

ORDERS = list(permutations(range(3)))
T, PER = 21, 8


def sample(n):
    label = torch.randint(len(ORDERS), (n,))
    x = torch.zeros(T, n, 3 * PER)
    for k, order in enumerate(label.tolist()):
        for place, channel in enumerate(ORDERS[order]):
            t = 7 * place + torch.randint(0, 4, (PER,))
            x[t, k, channel * PER + torch.arange(PER)] = 1
    return x, label


class OrderNet(nn.Module):
    def __init__(self, hidden=80):
        super().__init__()
        self.embed = nn.Linear(3 * PER, hidden)
        self.cells = snn.RLeaky(beta=0.9, linear_features=hidden, spike_grad=surrogate.atan(alpha=2.0))
        self.decide = nn.Linear(hidden, len(ORDERS))
        self.readout = snn.Leaky(beta=0.95, reset_mechanism="none")

    def forward(self, x):
        spk, mem = self.cells.init_rleaky()
        out = self.readout.init_leaky()
        for frame in x:
            spk, mem = self.cells(2.0 * self.embed(frame), spk, mem)
            _, out = self.readout(self.decide(spk), out)
        return out


torch.manual_seed(14)
model = OrderNet()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=260)
for i in range(260):
    x, label = sample(40)
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), label)
    loss.backward()
    optimizer.step()
    scheduler.step()
    if i % 40 == 0:
        print("step", i, "loss", loss.item())
model.eval()
with torch.no_grad():
    x, label = sample(500)
    print("accuracy", (model(x).argmax(1) == label).float().mean().item())
# %% snntorch/third/plateau_checkpoint.py
"""Learning rate on plateau, and the best epoch is restored for the test."""
import copy

import snntorch as snn
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from snntorch import surrogate
from torch import nn


class ConvNet(nn.Module):
    def __init__(self, steps=6):
        super().__init__()
        self.steps = steps
        self.c = nn.Conv2d(1, 12, 3, padding=1)
        self.p = nn.MaxPool2d(2)
        self.n1 = snn.Leaky(beta=0.7, learn_beta=True, spike_grad=surrogate.fast_sigmoid(slope=5))
        self.f = nn.Linear(12 * 16, 10)
        self.n2 = snn.Leaky(beta=0.9, reset_mechanism="none")

    def forward(self, x):
        u, w = self.n1.init_leaky(), self.n2.init_leaky()
        drive = self.p(self.c(x))
        for _ in range(self.steps):
            s, u = self.n1(drive, u)
            _, w = self.n2(self.f(s.flatten(1)), w)
        return w


def iterate(x, y, size, generator):
    order = torch.randperm(len(y), generator=generator)
    for rows in order.split(size)[:24]:
        yield x[rows], y[rows]


def accuracy(net, x, y):
    with torch.no_grad():
        return (net(x).argmax(1) == y).float().mean().item()


def main():
    torch.manual_seed(9)
    images, target = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8).astype("float32") / 16 * 2
    x, x_test, y, y_test = (torch.tensor(v) for v in train_test_split(images, target, test_size=300, random_state=9))
    x_val, y_val, x, y = x[:200], y[:200], x[200:], y[200:]
    net = ConvNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=1)
    generator = torch.Generator()
    generator.manual_seed(9)
    best, kept = 0.0, copy.deepcopy(net.state_dict())
    for epoch in range(7):
        total = 0.0
        for xb, yb in iterate(x, y, 48, generator):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(xb), yb)
            loss.backward()
            optimizer.step()
            total += loss.item()
        plateau.step(total)
        val = accuracy(net, x_val, y_val)
        if val > best:
            best, kept = val, copy.deepcopy(net.state_dict())
        print(f"epoch {epoch} loss {total:.2f} val {val:.3f} lr {optimizer.param_groups[0]['lr']:.4g}")
    net.load_state_dict(kept)
    print("test accuracy", accuracy(net, x_test, y_test))


main()
# %% snntorch/third/sequential_hidden.py
"""nn.Sequential with hidden states inside the neurons, rate loss on output spikes."""
import snntorch as snn
import torch
from sklearn.datasets import load_digits
from snntorch import functional as SF
from snntorch import surrogate, utils
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(21)
beta, num_steps, width = 0.9, 10, 100
grad = surrogate.fast_sigmoid(slope=10)

digits = load_digits()
dataset = TensorDataset(torch.tensor(digits.data / 16.0, dtype=torch.float32), torch.tensor(digits.target))
train_set, test_set = random_split(dataset, [1400, 397])
train_loader = DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True)
test_loader = DataLoader(test_set, batch_size=397)

lif_a = snn.Leaky(beta=beta, spike_grad=grad, init_hidden=True)
lif_b = snn.Leaky(beta=beta, spike_grad=grad, init_hidden=True)
net = nn.Sequential(
    nn.Linear(64, width),
    lif_a,
    nn.Linear(width, width),
    lif_b,
    nn.Linear(width, 10),
    snn.Leaky(beta=beta, spike_grad=grad, init_hidden=True, output=True),
)
params = list(net.parameters())
print("trainable:", sum(p.numel() for p in params))
optimizer = torch.optim.Adam(params, lr=2e-3, betas=(0.9, 0.999))
loss_fn = SF.ce_rate_loss()


def forward_pass(net, data):
    utils.reset(net)
    spk_rec = []
    for step in range(num_steps):
        spk_out, mem_out = net(data)
        spk_rec.append(spk_out)
    return torch.stack(spk_rec)


for epoch in range(6):
    epoch_loss = 0
    for data, targets in train_loader:
        loss_val = loss_fn(forward_pass(net, data), targets)
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
        epoch_loss += loss_val.item()
    print(f"Epoch {epoch}: train loss {epoch_loss / len(train_loader):.2f}")

with torch.no_grad():
    data, targets = next(iter(test_loader))
    print("Test accuracy:", SF.accuracy_rate(forward_pass(net, data), targets))
# %% snntorch/third/sparse_long.py
"""A hundred steps with a spike of the input in every fiftieth step, read out by its last potential."""
import snntorch as snn
import torch
from snntorch import spikegen
from torch import nn

torch.manual_seed(33)
T, N = 100, 40
prototypes = torch.rand(6, N) * 90


def draw(n):
    y = torch.randint(6, (n,))
    when = (prototypes[y] + 4 * torch.randn(n, N)).round().long().clamp(0, T - 1)
    return torch.zeros(T, n, N).scatter_(0, when[None], 1.0), y


fc = nn.Linear(N, 50, bias=False)
lif = snn.Leaky(beta=0.97, threshold=0.4)
out = nn.Linear(50, 6, bias=False)
opt = torch.optim.Adam([*fc.parameters(), *out.parameters()], lr=1e-2)


def logits(x):
    mem, acc = lif.init_leaky(), 0.0
    for t, currents in enumerate(fc(x)):
        spk, mem = lif(currents, mem)
        acc = acc + out(spk) * (1 + t / T)
    return acc


for i in range(70):
    x, y = draw(32)
    loss = nn.functional.cross_entropy(logits(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if i % 10 == 0:
        print(i, loss.item(), "input rate", x.mean().item())
with torch.no_grad():
    x, y = draw(300)
    print("accuracy", (logits(x).argmax(1) == y).float().mean().item())
# %% snntorch/third/two_heads_accumulated.py
# Long, sparse input; two tasks with a head each; gradients of several small batches are added up.
import snntorch as snn
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

torch.manual_seed(52)
STEPS, SMALL, ACCUMULATE = 40, 20, 3

bunch = load_digits()
pixels = torch.tensor(bunch.data, dtype=torch.float32) / 16
digit = torch.tensor(bunch.target)
odd = (digit % 2).float()
perm = torch.randperm(len(digit))
train_idx, test_idx = perm[:1200], perm[1200:1600]


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(64, 120)
        self.lif = snn.Leaky(beta=0.95, threshold=0.5, reset_mechanism="zero")
        self.digit_head = nn.Linear(120, 10)
        self.odd_head = nn.Linear(120, 1)

    def forward(self, rate):
        mem = self.lif.init_leaky()
        fired = 0
        for _ in range(STEPS):
            spk, mem = self.lif(self.trunk(torch.bernoulli(0.15 * rate)), mem)
            fired = fired + spk
        fired = fired / STEPS * 4
        return self.digit_head(fired), self.odd_head(fired).squeeze(1)


def losses(model, idx):
    scores, parity = model(pixels[idx])
    loss = F.cross_entropy(scores, digit[idx])
    loss = loss + 0.5 * F.binary_cross_entropy_with_logits(parity, odd[idx])
    return loss


model = Shared()
optimizer = torch.optim.Adam(model.parameters(), lr=6e-3)
for epoch in range(5):
    optimizer.zero_grad()
    for i, idx in enumerate(train_idx[torch.randperm(1200)].split(SMALL)):
        loss = losses(model, idx) / ACCUMULATE
        loss.backward()
        if (i + 1) % ACCUMULATE == 0:
            optimizer.step()
            optimizer.zero_grad()
    print(f"epoch {epoch} loss {loss.item() * ACCUMULATE:.3f}")

model.eval()
with torch.no_grad():
    scores, parity = model(pixels[test_idx])
    print("odd or even:", ((parity > 0) == (odd[test_idx] > 0)).float().mean().item())
    print("digits:", (scores.argmax(1) == digit[test_idx]).float().mean().item())
