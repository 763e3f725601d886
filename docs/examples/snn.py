"""A script of snntorch that does not learn: `lsg diagnose docs/examples/snn.py` says why."""

import snntorch as snn
import torch
from snntorch import utils
from torch import nn

torch.manual_seed(0)
patterns = torch.rand(10, 64)
net = nn.Sequential(nn.Linear(64, 100), snn.Leaky(beta=0.9, threshold=50, init_hidden=True), nn.Linear(100, 10))
optimiser = torch.optim.Adam(net.parameters())
for _ in range(200):
    labels = torch.randint(10, (32,))
    spikes = (torch.rand(8, 32, 64) < patterns[labels]).float()  # (T, B, inputs)
    utils.reset(net)
    loss = nn.functional.cross_entropy(sum(net(now) for now in spikes), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
