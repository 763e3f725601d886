"""Reservoir computing: random recurrent spiking neurons that are never trained, and a linear readout of their traces that is.
It tells which of four rhythms a burst of noise follows."""
import math

import torch
from torch import nn

torch.manual_seed(40)


def rhythms(n):
    """Inputs (steps, n, 3) and labels: spikes whose probability rises and falls with a period of 5, 8, 12 or 18 steps."""
    label = torch.randint(0, 4, (n,))
    period = torch.tensor([5.0, 8.0, 12.0, 18.0])[label]
    phase = 2 * math.pi * torch.rand(n)
    t = torch.arange(72).unsqueeze(1)
    rate = 0.5 + 0.5 * torch.sin(2 * math.pi * t / period + phase)
    return torch.bernoulli((rate ** 2).unsqueeze(-1).expand(-1, -1, 3)), label


class Reservoir(nn.Module):
    """Time constants are drawn for each neuron; no parameter has a gradient."""

    def __init__(self, inputs, neurons, gain=0.9, density=0.1, strength=0.8):
        super().__init__()
        connected = (torch.rand(neurons, neurons) < density).float()
        weights = torch.randn(neurons, neurons) * connected / math.sqrt(density * neurons)
        self.register_buffer("w_in", strength * torch.randn(inputs, neurons))
        self.register_buffer("w_rec", gain * weights)
        self.register_buffer("decay", torch.exp(-1 / (1 + 12 * torch.rand(neurons))))
        self.register_buffer("trace_decay", torch.exp(-1 / (2 + 15 * torch.rand(neurons))))

    @torch.no_grad()
    def forward(self, spikes):
        v = s = trace = total = torch.zeros(spikes.shape[1], self.w_rec.shape[0])
        moments = []
        for x in spikes:
            v = self.decay * v * (1 - s) + x @ self.w_in + s @ self.w_rec
            s = (v > 1.0).float()
            trace = self.trace_decay * trace + s
            moments.append(trace)
        history = torch.stack(moments[20:])
        return torch.cat([history.mean(0), history.std(0)], dim=1)


reservoir = Reservoir(3, 200)
readout = nn.Sequential(nn.BatchNorm1d(400), nn.Dropout(0.2), nn.Linear(400, 4))
optimizer = torch.optim.AdamW(readout.parameters(), lr=2e-3, weight_decay=0.05)
signals, label = rhythms(900)
features = reservoir(signals)
for epoch in range(25):
    readout.train()
    for rows in torch.randperm(900).split(60):
        loss = nn.functional.cross_entropy(readout(features[rows]), label[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1} loss {loss.item():.3f}")

readout.eval()
signals, label = rhythms(400)
with torch.no_grad():
    print("test accuracy", (readout(reservoir(signals)).argmax(1) == label).float().mean().item())
