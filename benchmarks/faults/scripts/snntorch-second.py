# %% snntorch/second/deep_blocks.py
# five spiking layers kept in a ModuleList, with skips; classification of digits by the number of spikes
import torch
from torch import nn
import snntorch as snn
import snntorch.functional as SF
from snntorch import surrogate
from sklearn.datasets import load_digits

torch.manual_seed(8)

data, target = load_digits(return_X_y=True)
data = torch.tensor(data, dtype=torch.float32).div(8).sub(1)
target = torch.tensor(target)
mix = torch.randperm(1797)
data, target = data[mix], target[mix]


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.lin = nn.Linear(d, d)
        self.lif = snn.Leaky(beta=0.7, threshold=0.6, spike_grad=surrogate.triangular())

    def forward(self, x, mem):
        spk, mem = self.lif(self.lin(x), mem)
        return spk + x, mem


class Deep(nn.Module):
    def __init__(self, d=64, depth=4, steps=8):
        super().__init__()
        self.stem = nn.Linear(64, d)
        self.blocks = nn.ModuleList([Block(d) for _ in range(depth)])
        self.fc = nn.Linear(d, 10)
        self.out = snn.Leaky(beta=0.9, threshold=1.0)
        self.steps = steps

    def forward(self, x):
        mems = [b.lif.init_leaky() for b in self.blocks]
        mem = self.out.init_leaky()
        counts = []
        for _ in range(self.steps):
            h = torch.relu(self.stem(x))
            for i, block in enumerate(self.blocks):
                h, mems[i] = block(h, mems[i])
            spk, mem = self.out(self.fc(h), mem)
            counts.append(spk)
        return torch.stack(counts)


net = Deep()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
loss_fn = SF.mse_count_loss(correct_rate=0.9, incorrect_rate=0.1)
for epoch in range(8):
    for i in range(0, 1440, 60):
        spk = net(data[i : i + 60])
        loss = loss_fn(spk, target[i : i + 60])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())

with torch.no_grad():
    print("accuracy", SF.accuracy_rate(net(data[1440:]), target[1440:]))
# %% snntorch/second/digits_loader_cnn.py
# Spiking CNN on the 8x8 digits, static images shown for 8 steps
import torch
import torch.nn as nn
import torch.nn.functional as F
import snntorch as snn
from snntorch import surrogate
from snntorch import functional as SF
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(42)
device = torch.device("cpu")
dtype = torch.float

digits = load_digits()
x_tr, x_te, y_tr, y_te = train_test_split(digits.images, digits.target, test_size=0.25, random_state=42, stratify=digits.target)
train_ds = TensorDataset(torch.tensor(x_tr, dtype=dtype).unsqueeze(1) / 16.0, torch.tensor(y_tr, dtype=torch.long))
test_ds = TensorDataset(torch.tensor(x_te, dtype=dtype).unsqueeze(1) / 16.0, torch.tensor(y_te, dtype=torch.long))

batch_size = 64
train_loader = DataLoader(train_ds, batch_size=batch_size, shuffle=True, drop_last=True)
test_loader = DataLoader(test_ds, batch_size=batch_size, shuffle=False)

num_steps = 8
beta = 0.9


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        spike_grad = surrogate.fast_sigmoid(slope=10)
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.lif1 = snn.Leaky(beta=beta, spike_grad=spike_grad)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1)
        self.lif2 = snn.Leaky(beta=beta, spike_grad=spike_grad)
        self.fc1 = nn.Linear(24 * 2 * 2, 10)
        self.lif3 = snn.Leaky(beta=beta, spike_grad=spike_grad)

    def forward(self, x):
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        mem3 = self.lif3.init_leaky()
        spk_rec, mem_rec = [], []
        for step in range(num_steps):
            cur1 = F.max_pool2d(self.conv1(x), 2)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = F.max_pool2d(self.conv2(spk1), 2)
            spk2, mem2 = self.lif2(cur2, mem2)
            cur3 = self.fc1(spk2.flatten(1))
            spk3, mem3 = self.lif3(cur3, mem3)
            spk_rec.append(spk3)
            mem_rec.append(mem3)
        return torch.stack(spk_rec), torch.stack(mem_rec)


net = Net().to(device)
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3, betas=(0.9, 0.999))
loss_fn = SF.ce_rate_loss()

for epoch in range(4):
    net.train()
    for data, targets in train_loader:
        data, targets = data.to(device), targets.to(device)
        spk_rec, _ = net(data)
        loss_val = loss_fn(spk_rec, targets)
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
    print(f"Epoch {epoch}, train loss {loss_val.item():.3f}")

with torch.no_grad():
    net.eval()
    acc = total = 0
    for data, targets in test_loader:
        spk_rec, _ = net(data)
        acc += SF.accuracy_rate(spk_rec, targets) * spk_rec.size(1)
        total += spk_rec.size(1)
print(f"Test set accuracy: {acc / total:.4f}")
# %% snntorch/second/latency_batches.py
# digits as spike times: bright pixels fire early, dark ones late
import torch, snntorch as snn
from torch import nn
from snntorch import spikegen, surrogate
from sklearn.datasets import load_digits

torch.manual_seed(11); torch.set_num_threads(1)
STEPS = 20
BATCH = 20

d = load_digits()
perm = torch.randperm(len(d.target))
pix = torch.from_numpy(d.data).float()[perm] / 16
lab = torch.from_numpy(d.target)[perm]

# [time, sample, pixel] -> [sample, time, pixel]
spikes = spikegen.latency(pix, num_steps=STEPS, tau=5, threshold=0.01, clip=True, normalize=True, linear=True)
spikes = spikes.transpose(0, 1).contiguous()
train, test = (spikes[:1500], lab[:1500]), (spikes[1500:1780], lab[1500:1780])

class TimeNet(nn.Module):
    def __init__(self, n_in=64, n_hid=100, n_out=10):
        super().__init__()
        sg = surrogate.atan(alpha=2.0)
        self.w1, self.w2 = nn.Linear(n_in, n_hid), nn.Linear(n_hid, n_out)
        self.n1 = snn.Synaptic(alpha=0.8, beta=0.9, threshold=0.5, spike_grad=sg)
        self.n2 = snn.Synaptic(alpha=0.8, beta=0.9, threshold=0.5, spike_grad=sg, reset_mechanism="none")

    def forward(self, x):                     # x: sample, time, pixel
        s1, m1 = self.n1.init_synaptic(); s2, m2 = self.n2.init_synaptic()
        trace = []
        for t in range(x.size(1)):
            z, s1, m1 = self.n1(self.w1(x[:, t]), s1, m1)
            _, s2, m2 = self.n2(self.w2(z), s2, m2)
            trace.append(m2)
        return torch.stack(trace, 1).mean(1)  # sample, class

model = TimeNet()
adam = torch.optim.Adam(model.parameters(), 2e-3)
crit = nn.CrossEntropyLoss()
for ep in range(4):
    for k in torch.randperm(1500).view(-1, BATCH):
        adam.zero_grad()
        crit(model(train[0][k]), train[1][k]).backward()
        adam.step()

model.eval()
right = 0
with torch.no_grad():
    for k in torch.arange(280).view(-1, BATCH):
        right += (model(test[0][k]).argmax(1) == test[1][k]).sum().item()
print("epochs: 4, accuracy on the test set:", right / 280)
# %% snntorch/second/moons_sequential.py
"""Interleaved spirals of three classes, a sequential network with hidden states kept in its neurons."""
import torch
import snntorch as snn
from snntorch import utils

generator = torch.Generator().manual_seed(23)
torch.manual_seed(23)


def spirals(per_class):
    xs, ys = [], []
    for c in range(3):
        r = torch.linspace(0.1, 1, per_class)
        phi = r * 4 + c * 2.0944 + 0.12 * torch.randn(per_class, generator=generator)
        xs.append(torch.stack([r * phi.cos(), r * phi.sin()], 1))
        ys.append(torch.full((per_class,), c))
    return torch.cat(xs), torch.cat(ys)


x, y = spirals(300)
order = torch.randperm(len(y), generator=generator)
x, y = x[order], y[order]
n_train = 720

net = torch.nn.Sequential(
    torch.nn.Linear(2, 80),
    snn.Leaky(beta=0.8, init_hidden=True),
    torch.nn.Linear(80, 80),
    snn.Leaky(beta=0.8, init_hidden=True),
    torch.nn.Linear(80, 3),
)


def run(batch, steps=10):
    utils.reset(net)
    return sum(net(3 * batch) for _ in range(steps)) / steps


opt = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(40):
    perm = torch.randperm(n_train, generator=generator)
    for part in perm.chunk(9):
        loss = torch.nn.functional.cross_entropy(run(x[:n_train][part]), y[:n_train][part])
        opt.zero_grad()
        loss.backward()
        opt.step()

with torch.no_grad():
    hits = run(x[n_train:]).argmax(1).eq(y[n_train:])
print("test accuracy", hits.float().mean().item())
# %% snntorch/second/sine_mixture_regression.py
"""Regress the frequency of a noisy sine from its samples, one at a time (membrane of the last neuron)."""
import math

import snntorch as snn
import torch
from snntorch import surrogate

SEED, STEPS, N_TRAIN, N_TEST = 5, 24, 900, 300
torch.manual_seed(SEED)


def make(n):
    freq = torch.rand(n) * 2 + 0.5
    t = torch.linspace(0, 1, STEPS)
    wave = torch.sin(2 * math.pi * freq[:, None] * t) + 0.05 * torch.randn(n, STEPS)
    return wave, freq


class Regressor(torch.nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        grad = surrogate.fast_sigmoid(slope=5)
        self.encode = torch.nn.Linear(1, hidden)
        self.rec = snn.RLeaky(beta=0.9, linear_features=hidden, spike_grad=grad, threshold=0.5)
        self.decode = torch.nn.Linear(hidden, 1)
        self.integrator = snn.Leaky(beta=0.98, reset_mechanism="none", spike_grad=grad)
        torch.nn.init.normal_(self.rec.recurrent.weight, std=0.3 / math.sqrt(hidden))
        torch.nn.init.normal_(self.encode.weight, std=1.0)

    def forward(self, wave):
        spk, mem = self.rec.init_rleaky()
        out = self.integrator.init_leaky()
        for t in range(wave.shape[1]):
            spk, mem = self.rec(self.encode(wave[:, t : t + 1]), spk, mem)
            _, out = self.integrator(self.decode(spk), out)
        return out.squeeze(1)


train_x, train_y = make(N_TRAIN)
test_x, test_y = make(N_TEST)
model = Regressor()
opt = torch.optim.Adam(model.parameters(), lr=4e-3)
mse = torch.nn.MSELoss()

for epoch in range(14):
    shuffled = torch.randperm(N_TRAIN)
    for start in range(0, N_TRAIN, 50):
        rows = shuffled[start : start + 50]
        pred = model(train_x[rows])
        loss = mse(pred, train_y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 5 == 4:
        print("epoch", epoch, "mse", float(loss))

with torch.no_grad():
    residual = (model(test_x) - test_y).pow(2).sum()
    r2 = 1 - residual / (test_y - test_y.mean()).pow(2).sum()
print("R2 %.4f" % r2.item())
# %% snntorch/second/slstm_rows.py
import numpy as np
import torch
from torch import nn
import snntorch as snn
from sklearn import datasets, model_selection, preprocessing

RNG = 17
torch.manual_seed(RNG)
np.random.seed(RNG)

X, y = datasets.load_digits(return_X_y=True)
X = preprocessing.MinMaxScaler().fit_transform(X).reshape(-1, 8, 8).astype("float32")
Xtr, Xte, ytr, yte = model_selection.train_test_split(X, y, train_size=1350, random_state=RNG)


class RowReader(nn.Module):
    """Reads an image row by row with two spiking LSTM layers."""

    def __init__(self, width, classes):
        super(RowReader, self).__init__()
        self.first = snn.SLSTM(8, width, threshold=0.2)
        self.second = snn.SLSTM(width, width, threshold=0.2)
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        syn_a, mem_a = self.first.init_slstm()
        syn_b, mem_b = self.second.init_slstm()
        for row in images.unbind(dim=1):
            spk_a, syn_a, mem_a = self.first(row, syn_a, mem_a)
            spk_b, syn_b, mem_b = self.second(spk_a, syn_b, mem_b)
        return self.head(mem_b)


reader = RowReader(64, 10)
optimizer = torch.optim.RMSprop(reader.parameters(), lr=3e-3)
criterion = nn.NLLLoss()
log_softmax = nn.LogSoftmax(dim=1)

n = len(ytr)
for epoch in range(10):
    order = np.random.permutation(n)
    running = 0.0
    for i in range(0, n, 45):
        pick = order[i : i + 45]
        xb, yb = torch.from_numpy(Xtr[pick]), torch.from_numpy(ytr[pick])
        optimizer.zero_grad()
        logp = log_softmax(reader(xb))
        loss = criterion(logp, yb)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(pick)
    print(f"[{epoch:02d}] {running / n:.4f}")

reader.eval()
with torch.no_grad():
    pred = reader(torch.from_numpy(Xte)).argmax(dim=1).numpy()
print("accuracy = %.4f" % (pred == yte).mean())
# %% snntorch/second/trainer_class.py
"""A small trainer around a spiking perceptron with learnt decays and thresholds."""
from __future__ import annotations

import copy
import random
from dataclasses import dataclass

import numpy as np
import snntorch as snn
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn


@dataclass
class Config:
    seed: int = 3
    hidden: int = 96
    steps: int = 12
    epochs: int = 6
    batch: int = 48
    lr: float = 4e-3
    weight_decay: float = 1e-4
    gamma: float = 0.8


def set_seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Perceptron(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.steps = cfg.steps
        self.inp = nn.Linear(64, cfg.hidden)
        self.norm = nn.BatchNorm1d(cfg.hidden)
        self.hid = snn.Leaky(beta=torch.full((cfg.hidden,), 0.85), learn_beta=True, threshold=1.0, learn_threshold=True)
        self.out = nn.Linear(cfg.hidden, 10)
        self.readout = snn.Leaky(beta=0.9, reset_mechanism="none")

    def forward(self, x: Tensor) -> Tensor:
        drive = self.norm(self.inp(x))
        u, v = self.hid.init_leaky(), self.readout.init_leaky()
        total = 0.0
        for _ in range(self.steps):
            s, u = self.hid(drive, u)
            _, v = self.readout(self.out(s), v)
            total = total + v
        return total / self.steps


class Trainer:
    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.model = Perceptron(cfg)
        self.optim = torch.optim.AdamW(self.model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
        self.sched = torch.optim.lr_scheduler.ExponentialLR(self.optim, gamma=cfg.gamma)
        self.criterion = nn.CrossEntropyLoss()
        self.best = (0.0, copy.deepcopy(self.model.state_dict()))

    def load(self) -> None:
        bunch = load_digits()
        order = np.random.permutation(len(bunch.target))
        x = torch.as_tensor(bunch.data[order], dtype=torch.float32) / 16
        y = torch.as_tensor(bunch.target[order])
        self.train_x, self.train_y = x[:1200], y[:1200]
        self.val_x, self.val_y = x[1200:1500], y[1200:1500]
        self.test_x, self.test_y = x[1500:], y[1500:]

    def epoch(self) -> float:
        self.model.train()
        losses = []
        for idx in torch.randperm(len(self.train_y)).split(self.cfg.batch):
            loss = self.criterion(self.model(self.train_x[idx]), self.train_y[idx])
            self.optim.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.optim.step()
            losses.append(loss.item())
        self.sched.step()
        return sum(losses) / len(losses)

    @torch.no_grad()
    def accuracy(self, x: Tensor, y: Tensor) -> float:
        self.model.eval()
        return (self.model(x).argmax(1) == y).float().mean().item()

    def fit(self) -> None:
        for number in range(self.cfg.epochs):
            mean = self.epoch()
            acc = self.accuracy(self.val_x, self.val_y)
            if acc > self.best[0]:
                self.best = (acc, copy.deepcopy(self.model.state_dict()))
            print(f"epoch {number + 1}/{self.cfg.epochs}  loss {mean:.4f}  val {acc:.3f}")
        self.model.load_state_dict(self.best[1])


if __name__ == "__main__":
    config = Config()
    set_seed(config.seed)
    trainer = Trainer(config)
    trainer.load()
    trainer.fit()
    print("test", round(trainer.accuracy(trainer.test_x, trainer.test_y), 4))
