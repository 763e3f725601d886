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
