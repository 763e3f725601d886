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
