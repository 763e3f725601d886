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
