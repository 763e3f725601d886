# %% snntorch/sixth/blocks_moving_dots.py
"""Dots that move in one of four directions, seen as ON and OFF events; spiking blocks inside a list of modules."""
import snntorch as snn
import torch
from snntorch import surrogate
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SIDE = 8
STEPS = 10


def record(count, seed):
    """Events (count, STEPS, 2, SIDE, SIDE) and directions (count)."""
    g = torch.Generator().manual_seed(seed)
    direction = torch.randint(0, 4, (count,), generator=g)
    offset = torch.randint(0, SIDE, (count, 2), generator=g)
    shift = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])
    video = torch.zeros(count, STEPS + 1, SIDE, SIDE)
    for i in range(count):
        for t in range(STEPS + 1):
            row, column = ((offset[i] + t * shift[direction[i]]) % SIDE).tolist()
            video[i, t, row, column] = 1.0
            video[i, t, (row + 1) % SIDE, column] = 1.0
            video[i, t, row, (column + 1) % SIDE] = 1.0
    change = video[:, 1:] - video[:, :-1]
    noise = torch.rand(change.shape, generator=g) < 0.01
    on = ((change > 0) | noise).float()
    off = (change < 0).float()
    return torch.stack([on, off], dim=2), direction


class Block(nn.Module):
    def __init__(self, inputs, outputs, beta, spike_grad):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.lif = snn.Leaky(beta=beta, spike_grad=spike_grad, init_hidden=True)

    def forward(self, x):
        return self.lif(self.linear(x))


class EventNet(nn.Module):
    def __init__(self, hidden=(128, 64)):
        super().__init__()
        grad = surrogate.fast_sigmoid(slope=10)
        sizes = [2 * SIDE * SIDE, *hidden]
        self.blocks = nn.ModuleList(Block(a, b, 0.7, grad) for a, b in zip(sizes[:-1], sizes[1:]))
        self.head = nn.Linear(sizes[-1], 4)

    def clear(self):
        for module in self.modules():
            if isinstance(module, snn.Leaky):
                module.reset_mem()

    def forward(self, events):
        self.clear()
        total = 0
        for t in range(events.shape[1]):
            x = events[:, t].flatten(1)
            for block in self.blocks:
                x = block(x)
            total = total + self.head(x)
        return total / events.shape[1]


def main():
    torch.manual_seed(0)
    train = DataLoader(TensorDataset(*record(1200, 1)), batch_size=60, shuffle=True)
    test = DataLoader(TensorDataset(*record(400, 2)), batch_size=100)
    net = EventNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(8):
        for events, direction in train:
            loss = nn.functional.cross_entropy(net(events), direction)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.3f}")
    correct = 0
    with torch.no_grad():
        for events, direction in test:
            correct += (net(events).argmax(1) == direction).sum().item()
    print("test accuracy", correct / 400)


if __name__ == "__main__":
    main()
# %% snntorch/sixth/slow_and_fast.py
# A slow network keeps the cue of a trial, a fast one reads each chunk anew; together they answer cue + last symbol
import snntorch as snn
import torch
import torch.nn as nn
import torch.nn.functional as F

CHUNKS, CHUNK, SYMBOLS = 4, 6, 4
WIDTH = 5


def make_trials(n, gen):
    symbols = torch.randint(0, SYMBOLS, (n, CHUNKS), generator=gen)
    x = torch.full((n, CHUNKS, CHUNK, 2 * SYMBOLS * WIDTH), 0.02)
    for c in range(CHUNKS):
        first = 0 if c == 0 else SYMBOLS
        for k in range(SYMBOLS):
            rows = symbols[:, c] == k
            x[rows, c, :, (first + k) * WIDTH:(first + k + 1) * WIDTH] = 0.5
    target = symbols[:, 0] * SYMBOLS + symbols[:, -1]
    return torch.bernoulli(x, generator=gen), target


def stack(beta, reset):
    return nn.Sequential(
        nn.Linear(2 * SYMBOLS * WIDTH, 64),
        snn.Leaky(beta=beta, init_hidden=True, reset_mechanism=reset, output=True),
    )


def forget(net):
    for layer in net:
        if isinstance(layer, snn.Leaky):
            layer.reset_mem()


torch.manual_seed(5)
gen = torch.Generator().manual_seed(5)
slow, fast = stack(0.99, "none"), stack(0.8, "subtract")
head = nn.Linear(128, SYMBOLS * SYMBOLS)
params = [*slow.parameters(), *fast.parameters(), *head.parameters()]
opt = torch.optim.Adam(params, lr=4e-3)


def answer(trials):
    forget(slow)
    for c in range(CHUNKS):
        forget(fast)
        spikes = 0
        for t in range(CHUNK):
            _, kept = slow(trials[:, c, t])
            spk, _ = fast(trials[:, c, t])
            spikes = spikes + spk
    return head(torch.cat([torch.tanh(kept), spikes / CHUNK], dim=1))


for it in range(160):
    trials, target = make_trials(64, gen)
    loss = F.cross_entropy(answer(trials), target)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 20 == 0:
        print("iteration", it, "loss", loss.item())

trials, target = make_trials(500, gen)
with torch.no_grad():
    print("accuracy", (answer(trials).argmax(1) == target).float().mean().item())
# %% snntorch/sixth/forgetting_rates.py
"""Which of six channels was loud last? Leaks are learned, one for each neuron."""
import argparse

import snntorch as snn
import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--hidden", type=int, default=60)
parser.add_argument("--epochs", type=int, default=7)
parser.add_argument("--lr", type=float, default=5e-3)
parser.add_argument("--tau", type=float, default=4.0, help="time constant at the start, in steps")
args = parser.parse_args()

CHANNELS, STEPS = 6, 30


def sample(n, generator):
    """Channels are loud one after the other; the label is the last one."""
    data = 0.05 * torch.ones(n, STEPS, CHANNELS)
    order = torch.stack([torch.randperm(CHANNELS, generator=generator) for _ in range(n)])
    for place in range(CHANNELS):
        for step in range(5 * place, 5 * place + 5):
            data[torch.arange(n), step, order[:, place]] = 0.7
    return torch.bernoulli(data, generator=generator), order[:, -1]


class Forgetful(nn.Module):
    def __init__(self, hidden, tau):
        super().__init__()
        decay = torch.exp(torch.tensor(-1.0 / tau))
        self.fc = nn.Linear(CHANNELS, hidden)
        self.lif = snn.Leaky(beta=decay * torch.ones(hidden), learn_beta=True)
        self.out = nn.Linear(hidden, CHANNELS)
        self.li = snn.Leaky(beta=decay * torch.ones(CHANNELS), learn_beta=True, reset_mechanism="none")

    def forward(self, x):
        mem, out = self.lif.reset_mem(), self.li.reset_mem()
        for t in range(x.size(1)):
            spk, mem = self.lif(self.fc(x[:, t]), mem)
            _, out = self.li(self.out(spk), out)
        return out


torch.manual_seed(3)
generator = torch.Generator().manual_seed(3)
train_x, train_y = sample(1500, generator)
test_x, test_y = sample(500, generator)
model = Forgetful(args.hidden, args.tau)
optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
for epoch in range(args.epochs):
    for rows in torch.randperm(len(train_y), generator=generator).split(50):
        loss = nn.functional.cross_entropy(model(train_x[rows]), train_y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item(), "leak", model.lif.beta.mean().item())
with torch.no_grad():
    print("test accuracy", (model(test_x).argmax(1) == test_y).float().mean().item())
# %% snntorch/sixth/own_leaky_surrogate.py
# The neuron of the sixth tutorial written by hand, on digits
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from snntorch import functional as SF
from torch.utils.data import DataLoader, TensorDataset


class LeakySurrogate(nn.Module):
    def __init__(self, beta, threshold=1.0):
        super().__init__()
        self.beta = beta
        self.threshold = threshold
        self.spike_op = self.SpikeOperator.apply

    def forward(self, input_, mem):
        spk = self.spike_op(mem - self.threshold)
        reset = (spk * self.threshold).detach()
        mem = self.beta * mem + input_ - reset
        return spk, mem

    @staticmethod
    class SpikeOperator(torch.autograd.Function):
        @staticmethod
        def forward(ctx, mem):
            spk = (mem > 0).float()
            ctx.save_for_backward(mem)
            return spk

        @staticmethod
        def backward(ctx, grad_output):
            (mem,) = ctx.saved_tensors
            return grad_output / (1 + (torch.pi * mem) ** 2)


class Net(nn.Module):
    def __init__(self, num_inputs, num_hidden, num_outputs, num_steps, beta):
        super().__init__()
        self.num_steps = num_steps
        self.fc1 = nn.Linear(num_inputs, num_hidden, bias=False)
        self.lif1 = LeakySurrogate(beta, threshold=1.0)
        self.fc2 = nn.Linear(num_hidden, num_hidden, bias=False)
        self.lif2 = LeakySurrogate(beta, threshold=1.0)
        self.fc3 = nn.Linear(num_hidden, num_outputs, bias=False)
        self.lif3 = LeakySurrogate(beta)

    def forward(self, x):
        mem1 = mem2 = torch.zeros(len(x), self.fc1.out_features)
        mem3 = torch.zeros(len(x), self.fc3.out_features)
        spk3_rec = []
        for _ in range(self.num_steps):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk3, mem3 = self.lif3(self.fc3(spk2), mem3)
            spk3_rec.append(spk3)
        return torch.stack(spk3_rec)


torch.manual_seed(21)
X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float), torch.tensor(y)
shuffled = torch.randperm(len(y))
train_rows, test_rows = shuffled[:1400], shuffled[1400:]
loader = DataLoader(TensorDataset(X[train_rows], y[train_rows]), batch_size=70, shuffle=True)

net = Net(64, 100, 10, num_steps=12, beta=0.95)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
criterion = SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)
for epoch in range(6):
    for data, targets in loader:
        spk_rec = net(data)
        loss_val = criterion(spk_rec, targets)
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
    print(f"Epoch {epoch}: loss {loss_val.item():.4f}")
net.eval()
with torch.no_grad():
    print("Test accuracy:", SF.accuracy_rate(net(X[test_rows]), y[test_rows]))
# %% snntorch/sixth/first_spike_digits.py
"""Digits told by whose output neuron fires first: mean squared error of the first spikes' times."""
import snntorch as snn
import snntorch.functional as SF
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from snntorch import surrogate, utils
from torch import nn

T = 12
CLASSES = 6
torch.manual_seed(1)
data = load_digits(n_class=CLASSES)
x_train, x_test, y_train, y_test = train_test_split(
    torch.tensor(data.data / 16).float(), torch.tensor(data.target), test_size=0.25, random_state=1)

grad = surrogate.fast_sigmoid(slope=5)
net = nn.Sequential(
    nn.Linear(64, 100),
    snn.Leaky(beta=0.9, spike_grad=grad, init_hidden=True),
    nn.Linear(100, CLASSES),
    snn.Leaky(beta=0.9, spike_grad=grad, init_hidden=True, output=True),
)
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
loss_fn = SF.mse_temporal_loss(on_target=1, off_target=T - 1, tolerance=1)


def run(inputs):
    utils.reset(net)
    recorded = []
    for step in range(T):
        spikes, _ = net(inputs)
        recorded.append(spikes)
    return torch.stack(recorded)


for epoch in range(12):
    mean = 0.0
    for rows in torch.randperm(len(y_train)).split(40):
        loss = loss_fn(run(x_train[rows]), y_train[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean += loss.item() * len(rows) / len(y_train)
    print("epoch", epoch, "loss", round(mean, 4))
with torch.no_grad():
    print("accuracy", SF.accuracy_temporal(run(x_test), y_test))
# %% snntorch/sixth/latency_double.py
"""Latency-coded measurements of wines, everything in double precision."""
import numpy as np
import snntorch as snn
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from snntorch import spikegen
from torch import nn


class WineNet(nn.Module):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self.fc1 = nn.Linear(13, 60)
        self.lif1 = snn.Leaky(beta=0.9, threshold=0.5)
        self.fc2 = nn.Linear(60, 3)
        self.lif2 = snn.Leaky(beta=0.95, reset_mechanism="none")

    def forward(self, x):
        spikes = spikegen.latency(x.clamp(0.02, 1), num_steps=self.steps, normalize=True, linear=True)
        spikes = spikes.to(x.dtype)
        mem1, mem2 = self.lif1.reset_mem(), self.lif2.reset_mem()
        best = None
        for t in range(self.steps):
            hidden, mem1 = self.lif1(self.fc1(spikes[t]), mem1)
            _, mem2 = self.lif2(self.fc2(hidden.to(x.dtype)), mem2)
            best = mem2 if best is None else torch.maximum(best, mem2)
        return best


def fit(model, x, y, epochs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for rows in torch.randperm(len(y)).split(16):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"{epoch:2d} {total:.3f}")


if __name__ == "__main__":
    torch.manual_seed(2)
    features, kinds = load_wine(return_X_y=True)
    low, high = features.min(0), features.max(0)
    scaled = (features - low) / (high - low)
    assert scaled.dtype == np.float64
    parts = train_test_split(torch.from_numpy(scaled), torch.from_numpy(kinds), test_size=60, random_state=2, stratify=kinds)
    train_x, test_x, train_y, test_y = parts
    net = WineNet(steps=15).double()
    fit(net, train_x, train_y, epochs=20)
    net.eval()
    with torch.no_grad():
        print("accuracy", (net(test_x).argmax(1) == test_y).double().mean().item())
# %% snntorch/sixth/rleaky_order.py
"""Pairs of tones in an order, a recurrent layer; rates of the hidden layer are kept low by a penalty."""
import snntorch as snn
import torch
from snntorch import surrogate, utils
from torch import nn

TONES, STEPS = 4, 16
PAIRS = [(a, b) for a in range(TONES) for b in range(TONES) if a != b]


def melodies(n, g):
    label = torch.randint(0, len(PAIRS), (n,), generator=g)
    first, second = torch.tensor(PAIRS)[label].T
    power = torch.zeros(STEPS, n, TONES * 4) + 0.03
    for tone in range(TONES):
        power[1:6, first == tone, 4 * tone:4 * tone + 4] = 0.5
        power[9:14, second == tone, 4 * tone:4 * tone + 4] = 0.5
    return torch.bernoulli(power, generator=g), label


torch.manual_seed(9)
g = torch.Generator().manual_seed(9)
lif_params = {"spike_grad": surrogate.fast_sigmoid(slope=10), "init_hidden": True}
encoder = nn.Sequential(nn.Linear(4 * TONES, 80), snn.RLeaky(beta=0.9, linear_features=80, **lif_params))
readout = nn.Sequential(nn.Linear(80, len(PAIRS)), snn.Leaky(beta=0.95, reset_mechanism="none", output=True, **lif_params))
optimizer = torch.optim.Adam([*encoder.parameters(), *readout.parameters()], lr=4e-3)


def play(x):
    """Potentials of the classes at the end, and the mean rate of the recurrent layer."""
    utils.reset(encoder)
    utils.reset(readout)
    rates = []
    for step in range(STEPS):
        hidden = encoder(x[step])
        rates.append(hidden.mean())
        _, potential = readout(hidden)
    return potential, torch.stack(rates).mean()


for epoch in range(10):
    for _ in range(20):
        x, label = melodies(64, g)
        potential, rate = play(x)
        loss = nn.functional.cross_entropy(potential, label) + 0.1 * (rate - 0.1).relu()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 3), "rate", round(rate.item(), 3))

x, label = melodies(600, g)
with torch.no_grad():
    potential, _ = play(x)
print("test accuracy", (potential.argmax(1) == label).float().mean().item())
