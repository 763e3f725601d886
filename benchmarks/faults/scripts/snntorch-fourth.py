# %% snntorch/fourth/membrane_regression.py
"""Regression with membranes: disease progression-like targets from a nonlinear function of five features; the output is the last
membrane potential of a leaky integrator without reset."""
import numpy as np
import snntorch as snn
import torch
from snntorch import surrogate
from sklearn.datasets import make_friedman2
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

torch.manual_seed(0)
np.random.seed(0)

X, y = make_friedman2(n_samples=1500, noise=10.0, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
x_scaler, y_scaler = StandardScaler(), StandardScaler()
X_train = x_scaler.fit_transform(X_train)
X_test = x_scaler.transform(X_test)
y_train = y_scaler.fit_transform(y_train.reshape(-1, 1))
X_train, X_test, y_train = (torch.tensor(a, dtype=torch.float32) for a in (X_train, X_test, y_train))


class RegressionNet(nn.Module):
    def __init__(self, steps=12, hidden=96):
        super().__init__()
        self.steps = steps
        grad = surrogate.atan(alpha=2.0)
        self.fc1 = nn.Linear(4, hidden)
        self.lif1 = snn.Leaky(beta=torch.full((hidden,), 0.8), learn_beta=True, spike_grad=grad, threshold=0.5)
        self.fc2 = nn.Linear(hidden, hidden)
        self.syn2 = snn.Synaptic(alpha=0.6, beta=0.8, spike_grad=grad, threshold=0.5)
        self.fc3 = nn.Linear(hidden, 1)
        self.out = snn.Leaky(beta=0.9, learn_beta=True, reset_mechanism="none")

    def forward(self, x):
        mem1 = self.lif1.reset_mem()
        syn2, mem2 = self.syn2.reset_mem()
        mem3 = self.out.reset_mem()
        for _ in range(self.steps):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, syn2, mem2 = self.syn2(self.fc2(spk1), syn2, mem2)
            _, mem3 = self.out(self.fc3(spk2), mem3)
        return mem3


model = RegressionNet()
epochs, size = 30, 50
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.93)
criterion = nn.SmoothL1Loss()
for epoch in range(epochs):
    order = np.random.permutation(len(X_train))
    for start in range(0, len(order), size):
        rows = order[start:start + size]
        optimizer.zero_grad()
        loss = criterion(model(X_train[rows]), y_train[rows])
        loss.backward()
        optimizer.step()
    scheduler.step()
    if epoch % 5 == 0:
        print(f"epoch {epoch}: loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    predicted = y_scaler.inverse_transform(model(X_test).numpy())
print("R2:", r2_score(y_test, predicted))
# %% snntorch/fourth/population_delta.py
"""Heart-beat-like signals become up and down spikes (delta modulation); a population of output neurons stands for each rhythm."""
import argparse

import snntorch as snn
import snntorch.functional as SF
import torch
from snntorch import spikegen
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

RHYTHMS, PER_CLASS, LENGTH = 4, 5, 60


def beats(count, seed):
    """Signals [count, LENGTH] in millivolts: slow, fast, double beats, beats with a slow wave; and labels."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, RHYTHMS, (count,), generator=g)
    t = torch.arange(LENGTH).float()
    signals = torch.zeros(count, LENGTH)
    for i, rhythm in enumerate(labels.tolist()):
        period = (9 if rhythm == 1 else 18) + 2 * torch.rand(1, generator=g)
        first = period * torch.rand(1, generator=g)
        phase = (t - first) % period
        wave = torch.exp(-((phase - 4) / 1.0) ** 2)
        if rhythm == 2:
            wave = wave + torch.exp(-((phase - 9) / 1.0) ** 2)
        if rhythm == 3:
            wave = wave + 0.8 * torch.exp(-((phase - 11) / 3.0) ** 2)
        signals[i] = 0.9 * wave
    return signals + 0.02 * torch.randn(count, LENGTH, generator=g), labels


class Net(nn.Module):
    def __init__(self, channels=6, hidden=64):
        super().__init__()
        self.window = nn.Conv1d(2, channels * 4, 15, stride=2, padding=7)
        self.lif0 = snn.Leaky(beta=0.7, threshold=0.5)
        self.fc1 = nn.Linear(channels * 4, hidden)
        self.lif1 = snn.Leaky(beta=0.9, threshold=0.7)
        self.fc2 = nn.Linear(hidden, RHYTHMS * PER_CLASS)
        self.lif2 = snn.Leaky(beta=0.9, threshold=0.7)

    def forward(self, events):
        currents = self.window(events.permute(1, 2, 0)).permute(2, 0, 1)
        mem0, mem1, mem2 = self.lif0.reset_mem(), self.lif1.reset_mem(), self.lif2.reset_mem()
        out = []
        for current in currents:
            spk0, mem0 = self.lif0(current, mem0)
            spk1, mem1 = self.lif1(self.fc1(spk0), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            out.append(spk2)
        return torch.stack(out)


def encode(signals, threshold):
    """[T, N, 2]: rises, and falls, by more than the threshold."""
    both = spikegen.delta(signals.t(), threshold=threshold, off_spike=True, padding=True)
    return torch.stack([(both > 0).float(), (both < 0).float()], dim=-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delta", type=float, default=0.1, help="millivolts")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()
    torch.manual_seed(5)
    train_loader = DataLoader(TensorDataset(*beats(480, 1)), batch_size=32, shuffle=True)
    test_loader = DataLoader(TensorDataset(*beats(240, 2)), batch_size=60)
    net = Net()
    loss_fn = SF.ce_count_loss(population_code=True, num_classes=RHYTHMS)
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        for signals, labels in train_loader:
            loss = loss_fn(net(encode(signals, args.delta)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print("epoch", epoch, "loss", round(loss.item(), 3))
    hits = 0
    net.eval()
    with torch.no_grad():
        for signals, labels in test_loader:
            spikes = net(encode(signals, args.delta))
            counts = spikes.sum(0).reshape(len(labels), RHYTHMS, PER_CLASS).sum(2)
            hits += (counts.argmax(1) == labels).sum().item()
    print("accuracy", hits / 240)


if __name__ == "__main__":
    main()
# %% snntorch/fourth/sequential_conv.py
"""Convolutional network as nn.Sequential with hidden states, for textures that drift in one of four directions."""
import snntorch as snn
import torch
import torch.nn as nn
from snntorch import surrogate, utils

torch.manual_seed(10)
SIZE, FRAMES, CLASSES = 12, 8, 4


def make_videos(count):
    """Random textures of 12x12 points, shifted by one point per frame: right, left, down, up. [frames, count, 1, 12, 12]"""
    start = (torch.rand(count, SIZE, SIZE) < 0.2).float()
    labels = torch.arange(count) % CLASSES
    shifts = [(0, 1), (0, -1), (1, 0), (-1, 0)]
    frames = []
    for t in range(FRAMES):
        moved = [torch.roll(s, (shifts[k][0] * t, shifts[k][1] * t), dims=(0, 1)) for s, k in zip(start, labels.tolist())]
        frames.append(torch.stack(moved))
    return torch.stack(frames).unsqueeze(2), labels


spike_grad = surrogate.fast_sigmoid(slope=5)
net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    snn.Leaky(beta=0.6, spike_grad=spike_grad, init_hidden=True, threshold=0.6),
    nn.Conv2d(16, 16, 3, padding=1),
    snn.Leaky(beta=0.6, spike_grad=spike_grad, init_hidden=True, threshold=0.6),
    nn.AvgPool2d(3),
    nn.Flatten(),
    nn.Linear(16 * 16, CLASSES),
    snn.Leaky(beta=0.9, spike_grad=spike_grad, init_hidden=True, output=True, reset_mechanism="none"),
)


def run(videos):
    utils.reset(net)
    potentials = []
    for frame in videos:
        _, mem = net(frame)
        potentials.append(mem)
    return torch.stack(potentials)


train_x, train_y = make_videos(640)
test_x, test_y = make_videos(200)
optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-2)
loss_fn = nn.CrossEntropyLoss()
for epoch in range(8):
    total = 0.
    for rows in torch.randperm(len(train_y)).split(32):
        mem_rec = run(train_x[:, rows])
        loss = sum(loss_fn(mem, train_y[rows]) for mem in mem_rec[2:]) / (FRAMES - 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    print(f"epoch {epoch + 1}: {total / len(train_y):.4f}")
with torch.no_grad():
    mem_rec = run(test_x)
    print("test accuracy:", (mem_rec[-1].argmax(1) == test_y).float().mean().item())
# %% snntorch/fourth/tutorial_fc_rate.py
# %% Fully connected spiking network, rate-coded digits
import snntorch as snn
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from snntorch import functional as SF
from snntorch import spikegen, surrogate
from torch.utils.data import DataLoader, Dataset, random_split

# %% settings
batch_size = 64
num_steps = 20
beta = 0.9
num_epochs = 6
dtype = torch.float
torch.manual_seed(42)


# %% data
class Digits(Dataset):
    def __init__(self):
        bunch = load_digits()
        self.images = bunch.images
        self.labels = bunch.target

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        image = torch.tensor(self.images[idx], dtype=dtype) / 16.
        return image.flatten(), int(self.labels[idx])


data = Digits()
train_set, test_set = random_split(data, [1400, len(data) - 1400])
train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True, drop_last=True)
test_loader = DataLoader(test_set, batch_size=batch_size, shuffle=True, drop_last=True)


# %% network
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        spike_grad = surrogate.fast_sigmoid(slope=25)
        self.fc1 = nn.Linear(64, 100)
        self.lif1 = snn.Leaky(beta=beta, spike_grad=spike_grad)
        self.fc2 = nn.Linear(100, 10)
        self.lif2 = snn.Leaky(beta=beta, spike_grad=spike_grad)

    def forward(self, x):
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        spk2_rec, mem2_rec = [], []
        for step in range(x.size(0)):
            cur1 = self.fc1(x[step])
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = self.fc2(spk1)
            spk2, mem2 = self.lif2(cur2, mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec), torch.stack(mem2_rec)


net = Net()
loss_fn = SF.ce_rate_loss()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, betas=(0.9, 0.999))

# %% training
for epoch in range(num_epochs):
    net.train()
    for i, (images, targets) in enumerate(train_loader):
        spike_data = spikegen.rate(images, num_steps=num_steps)
        spk_rec, mem_rec = net(spike_data)
        loss_val = loss_fn(spk_rec, targets)
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
    acc = SF.accuracy_rate(spk_rec, targets)
    print(f"Epoch {epoch}, loss {loss_val.item():.3f}, accuracy of last batch {acc * 100:.1f}%")

# %% test
total = 0
acc = 0
with torch.no_grad():
    net.eval()
    for images, targets in test_loader:
        spk_rec, _ = net(spikegen.rate(images, num_steps=num_steps))
        acc += SF.accuracy_rate(spk_rec, targets) * spk_rec.size(1)
        total += spk_rec.size(1)
print(f"The total accuracy on the test set is: {acc / total:.4f}")
