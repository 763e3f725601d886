# %% norse/fourth/seizure_imbalanced.py
"""Rare bursts in noise (one recording in eight), as with seizures: weighted sampling, early stopping, balanced accuracy."""
import copy

import numpy as np
import torch
from norse.torch import LIFParameters
from norse.torch import LIFRecurrent
from sklearn.metrics import balanced_accuracy_score
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

RNG = np.random.default_rng(77)


class Recordings(Dataset):
    """Two channels of 50 steps; positive ones have an oscillation of both channels in a part of it."""

    def __init__(self, n):
        self.y = (RNG.random(n) < 0.125).astype(np.int64)
        self.x = RNG.normal(0, 1, (n, 50, 2)).astype(np.float32)
        t = np.arange(50)
        for i in np.flatnonzero(self.y):
            start = RNG.integers(0, 25)
            burst = 1.6 * np.sin(2 * np.pi * t / 10 + RNG.random() * 6.28) * ((t >= start) & (t < start + 25))
            self.x[i] += burst[:, None].astype(np.float32)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class Detector(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        p = LIFParameters(tau_mem_inv=torch.as_tensor(1 / 0.005), tau_syn_inv=torch.as_tensor(1 / 0.005),
                          v_th=torch.as_tensor(0.4), alpha=torch.as_tensor(20.0), method="super")
        self.fc = nn.Linear(2, hidden)
        self.lif = LIFRecurrent(hidden, hidden, p=p)
        self.out = nn.Linear(hidden, 2)

    def forward(self, x):
        x = x.transpose(0, 1)
        spikes, _ = self.lif(self.fc(x))
        return self.out(spikes.mean(0) * 10)


def evaluate(model, loader):
    model.eval()
    losses, predicted, true = [], [], []
    with torch.no_grad():
        for x, y in loader:
            scores = model(x)
            losses.append(nn.functional.cross_entropy(scores, y, weight=torch.tensor([1.0, 7.0])).item())
            predicted.append(scores.argmax(1))
            true.append(y)
    return np.mean(losses), balanced_accuracy_score(torch.cat(true), torch.cat(predicted))


def train(model, train_loader, val_loader, max_epochs=15, patience=4):
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    best_loss, best_state, waited = float("inf"), None, 0
    for epoch in range(max_epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        val_loss, val_score = evaluate(model, val_loader)
        print(f"epoch {epoch}: validation loss {val_loss:.3f}, balanced accuracy {val_score:.3f}")
        if val_loss < best_loss:
            best_loss, best_state, waited = val_loss, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
            if waited >= patience:
                break
    model.load_state_dict(best_state)
    return model


def main():
    torch.manual_seed(77)
    train_set, val_set, test_set = Recordings(800), Recordings(400), Recordings(600)
    counts = np.bincount(train_set.y)
    class_weights = 1.0 / counts
    sample_weights = class_weights[train_set.y]
    sampler = WeightedRandomSampler(sample_weights, num_samples=len(train_set))
    train_loader = DataLoader(train_set, batch_size=40, sampler=sampler)
    val_loader = DataLoader(val_set, batch_size=100)
    model = train(Detector(), train_loader, val_loader)
    print("test, balanced accuracy", evaluate(model, DataLoader(test_set, batch_size=100))[1])


main()
# %% norse/fourth/sine_generator.py
"""Pattern generation, a usual test of learning rules: fixed random spike trains and a cue drive LSNN neurons; a leaky readout
draws one of three curves, the one that the cue asks for."""
import math

import torch
from norse.torch import LICell, LIParameters, LSNNParameters, LSNNRecurrentCell

torch.manual_seed(9)
STEPS, INPUTS, HIDDEN, CUES = 50, 30, 100, 3

frozen = (torch.rand(STEPS, 1, INPUTS) < 0.1).float()
t = torch.linspace(0, 1, STEPS)
curves = torch.stack([
    torch.sin(2 * math.pi * t) + 0.4 * torch.sin(6 * math.pi * t),
    torch.cos(2 * math.pi * t) - 1 + 0.5 * torch.sin(4 * math.pi * t),
    1.5 * torch.sin(3 * math.pi * t) * (1 - t),
])


class Generator(torch.nn.Module):
    def __init__(self):
        super().__init__()
        p = LSNNParameters(tau_syn_inv=torch.tensor(1 / 0.004), tau_mem_inv=torch.tensor(1 / 0.01), v_th=torch.tensor(0.3),
                           alpha=torch.tensor(30.0), tau_adapt_inv=torch.tensor(1 / 0.05), beta=torch.tensor(0.2))
        self.cell = LSNNRecurrentCell(INPUTS + CUES, HIDDEN, p=p)
        self.read = torch.nn.Linear(HIDDEN, 1)
        self.li = LICell(LIParameters(tau_syn_inv=torch.tensor(1 / 0.003), tau_mem_inv=torch.tensor(1 / 0.006)))

    def forward(self, cue):
        hint = torch.nn.functional.one_hot(cue, CUES).float()
        state = li_state = None
        values = []
        for step in frozen:
            x = torch.cat([step.expand(len(cue), -1), hint], dim=1)
            spikes, state = self.cell(x, state)
            v, li_state = self.li(self.read(spikes), li_state)
            values.append(v)
        return torch.stack(values, dim=1)          # batch, time, 1


model = Generator()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
cues = torch.arange(CUES)
for iteration in range(250):
    optimizer.zero_grad()
    drawn = model(cues)
    loss = ((drawn.squeeze(-1) - curves) ** 2).mean()
    loss.backward()
    optimizer.step()
    if iteration % 50 == 0:
        print(f"iteration {iteration}, mean squared error {loss.item():.4f}")
with torch.no_grad():
    error = (model(cues).squeeze(-1) - curves) ** 2
print("explained variance", 1 - error.mean().item() / curves.var().item())
# %% norse/fourth/wine_encoded.py
"""Wine with norse: constant currents become spikes, two layers of LIF neurons, a leaky integrator at the end."""
import norse.torch as norse
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler

torch.manual_seed(0)
SEQ_LENGTH = 30


class Classifier(torch.nn.Module):
    def __init__(self, features, hidden, classes):
        super().__init__()
        self.encoder = norse.ConstantCurrentLIFEncoder(SEQ_LENGTH)
        params = norse.LIFParameters(alpha=torch.tensor(100.0), v_th=torch.tensor(0.3))
        self.body = norse.SequentialState(
            torch.nn.Linear(features, hidden),
            norse.LIFCell(p=params),
            torch.nn.Linear(hidden, hidden),
            norse.LIFCell(p=params),
            torch.nn.Linear(hidden, classes),
            norse.LICell(),
        )

    def forward(self, x):
        spikes = self.encoder(2.5 * x)
        state = None
        voltages = []
        for step in spikes:
            v, state = self.body(step, state)
            voltages.append(v)
        voltages = torch.stack(voltages)
        return torch.nn.functional.log_softmax(voltages.max(0).values, dim=1)


X, y = load_wine(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.33, stratify=y, random_state=4)
scaler = MinMaxScaler()
X_train = scaler.fit_transform(X_train)
X_test = scaler.transform(X_test)
X_train, X_test = (torch.as_tensor(a, dtype=torch.float32) for a in (X_train, X_test))
y_train, y_test = torch.as_tensor(y_train), torch.as_tensor(y_test)

model = Classifier(13, 64, 3)
optimizer = torch.optim.Adam(model.parameters(), lr=8e-3)
for epoch in range(30):
    for index in torch.randperm(len(X_train)).split(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.nll_loss(model(X_train[index]), y_train[index])
        loss.backward()
        optimizer.step()
    if epoch % 5 == 0:
        print(epoch, loss.item())
with torch.no_grad():
    print("accuracy", (model(X_test).argmax(1) == y_test).float().mean().item())
