# %% snntorch/fifth/conv_hidden_states.py
"""Convolutional network as nn.Sequential with hidden states in the neurons; gratings of four orientations and two widths."""
import snntorch as snn
import snntorch.functional as SF
import torch
import torch.nn as nn
from snntorch import surrogate, utils

SIZE = 16
N_STEPS = 8


def gratings(n, generator):
    """Noisy images (n, 1, SIZE, SIZE) and classes 0 to 7."""
    label = torch.randint(0, 8, (n,), generator=generator)
    angle = (label % 4) * torch.pi / 4 + 0.12 * torch.randn(n, generator=generator)
    frequency = torch.where(label < 4, 0.7, 1.5)
    phase = 6.283 * torch.rand(n, generator=generator)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    along = torch.cos(angle).view(-1, 1, 1) * x + torch.sin(angle).view(-1, 1, 1) * y
    image = 0.5 + 0.5 * torch.sin(frequency.view(-1, 1, 1) * along + phase.view(-1, 1, 1))
    image = image + 0.25 * torch.randn(n, SIZE, SIZE, generator=generator)
    return image.clamp(0, 1).unsqueeze(1), label


def forward_pass(net, x, num_steps):
    utils.reset(net)
    spk_rec, mem_rec = [], []
    for _ in range(num_steps):
        spk, mem = net(x)
        spk_rec.append(spk)
        mem_rec.append(mem)
    return torch.stack(spk_rec), torch.stack(mem_rec)


def train_epoch(net, optimizer, loss_fn, images, labels):
    net.train()
    for rows in torch.randperm(len(labels)).split(50):
        spk_rec, mem_rec = forward_pass(net, images[rows], N_STEPS)
        loss = loss_fn(spk_rec, labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def main():
    torch.manual_seed(11)
    generator = torch.Generator().manual_seed(5)
    train_x, train_y = gratings(1000, generator)
    test_x, test_y = gratings(400, generator)

    spike_grad = surrogate.atan(alpha=2.0)
    beta = 0.8
    net = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2),
        nn.MaxPool2d(2),
        snn.Leaky(beta=beta, spike_grad=spike_grad, init_hidden=True),
        nn.Conv2d(8, 16, 5, padding=2),
        nn.MaxPool2d(2),
        snn.Leaky(beta=beta, spike_grad=spike_grad, init_hidden=True),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 8),
        snn.Leaky(beta=beta, spike_grad=spike_grad, init_hidden=True, output=True),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    loss_fn = SF.ce_rate_loss()
    for epoch in range(5):
        loss = train_epoch(net, optimizer, loss_fn, train_x, train_y)
        print("epoch", epoch, "loss", round(loss, 3))

    net.eval()
    with torch.no_grad():
        spk_rec, _ = forward_pass(net, test_x, N_STEPS)
    print("test accuracy", SF.accuracy_rate(spk_rec, test_y))


if __name__ == "__main__":
    main()
# %% snntorch/fifth/curve_regression.py
"""Regression with spikes: the membrane potential of one output neuron follows a curve, given a few numbers that describe it."""
import snntorch as snn
import torch
import torch.nn as nn


class Curves(torch.utils.data.Dataset):
    """Parameters (3) of a curve, and its values (steps, 1)."""

    def __init__(self, number, steps, generator):
        self.parameters = torch.rand(number, 3, generator=generator)
        t = torch.linspace(0, 1, steps)
        start, slope, bend = self.parameters.T.unsqueeze(-1)
        self.values = (start - 0.5) + 1.5 * slope * t + 1.5 * (bend - 0.5) * t ** 2

    def __getitem__(self, index):
        return self.parameters[index], self.values[index].unsqueeze(-1)

    def __len__(self):
        return len(self.parameters)


class Net(nn.Module):
    """Two hidden layers of leaky neurons; the output only integrates."""

    def __init__(self, timesteps, hidden):
        super().__init__()
        self.timesteps = timesteps
        self.hidden = hidden
        self.fc1 = nn.Linear(in_features=3, out_features=hidden)
        self.lif1 = snn.Leaky(beta=torch.rand(hidden), threshold=torch.rand(hidden) + 0.2, learn_beta=True)
        self.fc2 = nn.Linear(in_features=hidden, out_features=hidden)
        self.lif2 = snn.Leaky(beta=torch.rand(hidden), threshold=torch.rand(hidden) + 0.2, learn_beta=True)
        self.fc_out = nn.Linear(in_features=hidden, out_features=1)
        self.li_out = snn.Leaky(beta=0.7, learn_beta=True, reset_mechanism="none")

    def forward(self, x):
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.li_out.init_leaky()
        mem_3_rec = []
        for step in range(self.timesteps):
            spk1, mem1 = self.lif1(self.fc1(4 * x - 1), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk3, mem3 = self.li_out(self.fc_out(spk2), mem3)
            mem_3_rec.append(mem3)
        return torch.stack(mem_3_rec, dim=1)


torch.manual_seed(8)
g = torch.Generator().manual_seed(0)
num_steps = 20
train_loader = torch.utils.data.DataLoader(Curves(800, num_steps, g), batch_size=32, shuffle=True)
test_set = Curves(300, num_steps, g)
model = Net(timesteps=num_steps, hidden=96)
optimizer = torch.optim.Adam(params=model.parameters(), lr=2e-3)
loss_function = torch.nn.MSELoss()

model.train()
for epoch in range(14):
    hist = []
    for feature, label in train_loader:
        mem = model(feature)
        loss_val = loss_function(mem, label)
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
        hist.append(loss_val.item())
    print(f"epoch {epoch}: mse {sum(hist) / len(hist):.4f}")

model.eval()
with torch.no_grad():
    drawn = model(test_set.parameters).squeeze(-1)
    residual = ((drawn - test_set.values) ** 2).mean()
    print("R2:", (1 - residual / test_set.values.var()).item())
# %% snntorch/fifth/leaky_static_tutorial.py
# Static images, two layers of leaky neurons, cross entropy of the potential at every time step
import numpy as np
import snntorch as snn
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

# dataloader arguments
batch_size = 64
dtype = torch.float
device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
torch.manual_seed(3)

# data
digits = load_digits()
pixels = digits.data / 16.0
order = np.random.RandomState(3).permutation(len(pixels))
pixels, target = pixels[order], digits.target[order]
train_set = TensorDataset(torch.tensor(pixels[:1400], dtype=dtype), torch.tensor(target[:1400]))
test_set = TensorDataset(torch.tensor(pixels[1400:], dtype=dtype), torch.tensor(target[1400:]))
train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True, drop_last=True)
test_loader = DataLoader(test_set, batch_size=batch_size)

# network architecture
num_inputs = 64
num_hidden = 200
num_outputs = 10

# temporal dynamics
num_steps = 15
beta = 0.95


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(num_inputs, num_hidden)
        self.lif1 = snn.Leaky(beta=beta)
        self.fc2 = nn.Linear(num_hidden, num_outputs)
        self.lif2 = snn.Leaky(beta=beta)

    def forward(self, x):
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        spk2_rec = []
        mem2_rec = []
        for step in range(num_steps):
            cur1 = self.fc1(x)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = self.fc2(spk1)
            spk2, mem2 = self.lif2(cur2, mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)


net = Net().to(device)
loss = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.9, 0.999))
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.3)
num_epochs = 9

for epoch in range(num_epochs):
    for data, targets in train_loader:
        data = data.to(device)
        targets = targets.to(device)
        net.train()
        spk_rec, mem_rec = net(data)
        loss_val = torch.zeros(1, dtype=dtype, device=device)
        for step in range(num_steps):
            loss_val += loss(mem_rec[step], targets)
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
    scheduler.step()
    print(f"Epoch {epoch}, loss of last batch {loss_val.item():.2f}")

total = 0
correct = 0
with torch.no_grad():
    net.eval()
    for data, targets in test_loader:
        test_spk, _ = net(data.to(device))
        _, predicted = test_spk.sum(dim=0).max(1)
        total += targets.size(0)
        correct += (predicted == targets.to(device)).sum().item()
print(f"Correctly classified test images: {correct}/{total}, accuracy {correct / total:.4f}")
# %% snntorch/fifth/rare_faults.py
"""Predictive maintenance: vibration of a machine, one recording in six has a fault. One logit, early stopping on validation recordings."""
import copy
import math

import snntorch as snn
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import nn


def vibration(n, seed):
    """Recordings (n, 60), 1 where there is a fault: short bursts."""
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(60) / 60
    base = torch.sin(2 * math.pi * (5 + torch.rand(n, 1, generator=g)) * t + 6 * torch.rand(n, 1, generator=g))
    faulty = (torch.rand(n, generator=g) < 1 / 6).float()
    for i in faulty.nonzero().flatten().tolist():
        for place in torch.randint(5, 50, (3,), generator=g).tolist():
            base[i, place:place + 5] += torch.tensor([2.0, -2.0, 1.5, -1.5, 1.0])
    return base + 0.3 * torch.randn(n, 60, generator=g), faulty


class Monitor(nn.Module):
    def __init__(self):
        super().__init__()
        self.filters = nn.Conv1d(1, 16, 5, padding=2)
        self.lif1 = snn.Leaky(beta=0.5)
        self.mix = nn.Linear(16, 32)
        self.lif2 = snn.Leaky(beta=0.9)
        self.head = nn.Linear(32, 1)

    def forward(self, recording):
        currents = self.filters(recording.unsqueeze(1))
        mem1, mem2, total = self.lif1.init_leaky(), self.lif2.init_leaky(), 0.0
        for t in range(currents.shape[-1]):
            spk1, mem1 = self.lif1(currents[..., t], mem1)
            spk2, mem2 = self.lif2(self.mix(spk1), mem2)
            total = total + self.head(spk2)
        logit = total.squeeze(-1) / 6
        return logit


class EarlyStopping:
    def __init__(self, patience, min_delta):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.waited, self.weights = float("inf"), 0, None

    def should_stop(self, loss, model):
        if loss < self.best - self.min_delta:
            self.best, self.waited, self.weights = loss, 0, copy.deepcopy(model.state_dict())
        else:
            self.waited += 1
        return self.waited >= self.patience


torch.manual_seed(1)
x, y = vibration(600, seed=0)
val_x, val_y = vibration(300, seed=1)
test_x, test_y = vibration(500, seed=2)
model = Monitor()
criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(5.0))
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
stopper = EarlyStopping(patience=5, min_delta=0.001)

for epoch in range(11):
    for rows in torch.randperm(len(y)).split(40):
        optimizer.zero_grad()
        loss = criterion(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        val_loss = criterion(model(val_x), val_y).item()
    print(f"{epoch}: training {loss.item():.3f} validation {val_loss:.3f}")
    if stopper.should_stop(val_loss, model):
        print("early stop")
        break

model.load_state_dict(stopper.weights)
with torch.no_grad():
    found = (torch.sigmoid(model(test_x)) > 0.5).int()
print("balanced accuracy", round(balanced_accuracy_score(test_y.numpy(), found.numpy()), 4))
# %% snntorch/fifth/synaptic_spoken.py
"""Second-order neurons on spike trains like those of spoken words: the class is the order in which groups of channels speak."""
import itertools

import snntorch as snn
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

CHANNELS, STEPS = 30, 40
ORDERS = list(itertools.permutations(range(3)))  # six words of three syllables


class Words(Dataset):
    """Spikes (STEPS, CHANNELS) of 0 and 1, and the number of the word."""

    def __init__(self, size, seed):
        g = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, len(ORDERS), (size,), generator=g)
        rate = torch.full((size, STEPS, CHANNELS), 0.02)
        for i, label in enumerate(self.labels.tolist()):
            onset = int(torch.randint(0, 5, (1,), generator=g))
            for place, group in enumerate(ORDERS[label]):
                start = onset + 12 * place
                rate[i, start:start + 10, 10 * group:10 * group + 10] = 0.25
        self.spikes = (torch.rand(rate.shape, generator=g) < rate).float()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.spikes[i], self.labels[i]


class WordNet(nn.Module):
    def __init__(self, hidden=80, alpha=0.8, beta=0.9):
        super().__init__()
        self.fc_in = nn.Linear(CHANNELS, hidden)
        self.hidden = snn.Synaptic(alpha=alpha, beta=beta, reset_mechanism="subtract")
        self.recurrent = nn.Linear(hidden, hidden, bias=False)
        self.fc_out = nn.Linear(hidden, len(ORDERS))
        self.readout = snn.Leaky(beta=0.95, reset_mechanism="none")
        nn.init.orthogonal_(self.recurrent.weight, gain=0.3)

    def forward(self, spikes):
        syn, mem = self.hidden.init_synaptic()
        out = self.readout.init_leaky()
        s = torch.zeros(spikes.shape[1], self.recurrent.in_features)
        voltage = []
        for frame in spikes:
            s, syn, mem = self.hidden(self.fc_in(frame) + self.recurrent(s), syn, mem)
            _, out = self.readout(self.fc_out(s), out)
            voltage.append(out)
        return torch.stack(voltage)


def time_first(batch):
    spikes, labels = zip(*batch)
    return torch.stack(spikes, dim=1), torch.stack(labels)


torch.manual_seed(0)
train = DataLoader(Words(700, seed=1), batch_size=40, shuffle=True, collate_fn=time_first)
test = DataLoader(Words(300, seed=2), batch_size=40, collate_fn=time_first)
net = WordNet()
optimizer = torch.optim.Adamax(net.parameters(), lr=4e-3)
criterion = nn.CrossEntropyLoss()

for epoch in range(6):
    running = 0.0
    for spikes, labels in train:
        voltage = net(spikes)
        loss = criterion(voltage.mean(0), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        running += loss.item()
    print(f"{epoch}: {running / len(train):.3f}")

with torch.no_grad():
    hits = sum((net(spikes).mean(0).argmax(1) == labels).sum().item() for spikes, labels in test)
print(f"accuracy on new words {hits / 300:.3f}")
