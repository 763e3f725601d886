"""Seven layers of spikingjelly without normalisation, on scikit-learn's digits; arguments as of snntorch_five.py."""

import sys

import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
factor, *of_layers = map(float, sys.argv[1:])
digits = load_digits()
x, y = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None], torch.tensor(digits.target)
order = torch.randperm(len(x))
train, test = order[:1400], order[1400:]


def neurons():
    return neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True)


def block(a, b):
    return [layer.Conv2d(a, b, 3, padding=1), neurons()]


def sequence(samples):
    return x[samples].expand(4, -1, -1, -1, -1).contiguous()


net = nn.Sequential(
    *block(1, 16),
    *block(16, 16),
    layer.MaxPool2d(2),
    *block(16, 32),
    *block(32, 32),
    layer.MaxPool2d(2),
    layer.Flatten(),
    layer.Linear(128, 64),
    neurons(),
    layer.Linear(64, 64),
    neurons(),
    layer.Linear(64, 10),
)
functional.set_step_mode(net, "m")
with torch.no_grad():
    for i, synapse in enumerate(module for module in net if isinstance(module, nn.Conv2d | nn.Linear)):
        synapse.weight *= factor * (of_layers[i] if i < len(of_layers) else 1)
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for _ in range(6):
    for part in train[torch.randperm(len(train))].split(64):
        optimizer.zero_grad()
        F.cross_entropy(net(sequence(part)).mean(0), y[part]).backward()
        optimizer.step()
        functional.reset_net(net)
with torch.no_grad():
    print("accuracy", (net(sequence(test)).mean(0).argmax(1) == y[test]).float().mean().item())
