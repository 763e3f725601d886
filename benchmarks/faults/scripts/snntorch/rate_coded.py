"""Digits as Poisson spike trains, loss on spike counts."""
import argparse

import torch
from torch import nn
import snntorch as snn
import snntorch.functional as SF
from snntorch import spikegen
from sklearn import datasets

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--lr", type=float, default=2e-3)
args = parser.parse_args()

torch.manual_seed(42)
torch.set_num_threads(1)

X, y = datasets.load_digits(return_X_y=True)
X = torch.from_numpy(X).float() / 16
y = torch.from_numpy(y)
X_train, y_train = X[:1400], y[:1400]
X_test, y_test = X[1400:], y[1400:]


class SpikingMLP(nn.Module):
    def __init__(self, hidden=150):
        super().__init__()
        self.hidden = nn.Linear(64, hidden)
        self.lif_hidden = snn.Leaky(beta=0.9)
        self.out = nn.Linear(hidden, 10)
        self.lif_out = snn.Leaky(beta=0.9)

    def forward(self, spikes):
        mem_h = self.lif_hidden.init_leaky()
        mem_o = self.lif_out.init_leaky()
        recorded = []
        for s in spikes:
            spk_h, mem_h = self.lif_hidden(self.hidden(s), mem_h)
            spk_o, mem_o = self.lif_out(self.out(spk_h), mem_o)
            recorded.append(spk_o)
        return torch.stack(recorded)


model = SpikingMLP()
criterion = SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)
opt = torch.optim.Adam(model.parameters(), lr=args.lr)

for epoch in range(args.epochs):
    perm = torch.randperm(len(X_train))
    running = 0.0
    for idx in perm.split(70):
        spikes = spikegen.rate(X_train[idx], num_steps=args.steps)
        out = model(spikes)
        loss = criterion(out, y_train[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
        running += loss.item()
    print(f"{epoch}: {running:.3f}")

with torch.no_grad():
    out = model(spikegen.rate(X_test, num_steps=args.steps))
    acc = SF.accuracy_rate(out, y_test)
print(f"test accuracy {acc:.4f}")
