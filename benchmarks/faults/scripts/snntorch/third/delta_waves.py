"""Pulse trains, made as waves, delta modulated to events; synaptic neurons; spike counts as targets."""
import numpy as np
import snntorch as snn
import torch
from snntorch import functional as SF
from snntorch import spikegen, surrogate
from torch import nn

RNG = np.random.default_rng(17)
torch.manual_seed(17)
LENGTH, CHANNELS, CLASSES = 40, 12, 5


def waves(n):
    """Each class has its own pattern of phases over the channels."""
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, (CLASSES, CHANNELS))
    y = RNG.integers(0, CLASSES, n)
    t = np.arange(LENGTH)[:, None, None] / LENGTH
    shift = RNG.normal(0, 0.3, (n, CHANNELS))
    x = np.sin(2 * np.pi * 2 * t + phases[y] + shift) + RNG.normal(0, 0.05, (LENGTH, n, CHANNELS))
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def to_events(x):
    events = spikegen.delta(x, threshold=0.2, off_spike=True)
    return torch.cat([(events > 0).float(), (events < 0).float()], dim=-1)


class EventClassifier(nn.Module):
    def __init__(self, alpha=0.6, beta=0.8):
        super().__init__()
        spike_grad = surrogate.sigmoid(slope=5)
        self.fc1 = nn.Linear(2 * CHANNELS, 60)
        self.syn1 = snn.Synaptic(alpha=alpha, beta=beta, spike_grad=spike_grad)
        self.fc2 = nn.Linear(60, CLASSES)
        self.syn2 = snn.Synaptic(alpha=alpha, beta=beta, spike_grad=spike_grad)

    def forward(self, events):
        syn1, mem1 = self.syn1.init_synaptic()
        syn2, mem2 = self.syn2.init_synaptic()
        counts = []
        for e in events:
            s1, syn1, mem1 = self.syn1(self.fc1(e), syn1, mem1)
            s2, syn2, mem2 = self.syn2(self.fc2(s1), syn2, mem2)
            counts.append(s2)
        return torch.stack(counts)


x, y = waves(500)
x_test, y_test = waves(200)
events, events_test = to_events(x), to_events(x_test)
print("events per step and channel:", events.mean().item())
net = EventClassifier()
criterion = SF.mse_count_loss(correct_rate=0.7, incorrect_rate=0.1)
optim = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(8):
    for rows in torch.randperm(500).split(40):
        loss = criterion(net(events[:, rows]), y[rows])
        optim.zero_grad()
        loss.backward()
        optim.step()
    print("epoch", epoch, loss.item())
with torch.no_grad():
    print("accuracy", SF.accuracy_rate(net(events_test), y_test))
