"""A network that does not learn, because its threshold is too high: `lsg diagnose docs/examples/silent.py` says so."""

import torch
from torch import nn

import lsgcli as lsg

data = lsg.prepare("digits-dvs", T=4, size=16)
torch.manual_seed(0)
network = nn.Sequential(
    nn.Flatten(2),  # (T, B, 2, 16, 16) -> (T, B, 512)
    nn.Linear(512, 128),
    lsg.LIF(method="fixed", threshold=20.0),
    nn.Linear(128, 10),
)
optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)

for epoch in range(2):
    for batch in lsg.batches(data, "train", 32, seed=0, epoch=epoch, shuffle=True):
        loss = nn.functional.cross_entropy(network(batch.x).mean(0), batch.y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
