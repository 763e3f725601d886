"""Five layers of snntorch without normalisation, on scikit-learn's digits: arguments are a factor on all initial weights, and factors of layers."""

import itertools
import sys

import snntorch as snn
import torch
from sklearn.datasets import load_digits
from snntorch import surrogate
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
factor, *of_layers = map(float, sys.argv[1:])
digits = load_digits()
x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
order = torch.randperm(len(x))
train, test = order[:1400], order[1400:]
sizes = [64, 128, 128, 128, 128, 10]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.neurons = nn.ModuleList(snn.Leaky(beta=0.8, spike_grad=surrogate.atan()) for _ in sizes[1:])

    def forward(self, x):
        potentials, total = [neuron.init_leaky() for neuron in self.neurons], 0
        for _ in range(8):
            now = x
            for i, (layer, neuron) in enumerate(zip(self.layers, self.neurons, strict=True)):
                now, potentials[i] = neuron(layer(now), potentials[i])
            total = total + potentials[-1]
        return total / 8


net = Net()
with torch.no_grad():
    for i, layer in enumerate(net.layers):
        layer.weight *= factor * (of_layers[i] if i < len(of_layers) else 1)
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for _ in range(6):
    for part in train[torch.randperm(len(train))].split(64):
        optimizer.zero_grad()
        F.cross_entropy(net(x[part]), y[part]).backward()
        optimizer.step()
print("accuracy", (net(x[test]).argmax(1) == y[test]).float().mean().item())
