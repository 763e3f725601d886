"""lsg: a network of its own and one of torch modules, trained in a loop."""

import torch
from torch import nn

import lsgcli as lsg

T, CLASSES, BATCH = 4, 4, 32
torch.manual_seed(0)
centres = torch.randn(CLASSES, 20)
net = nn.Sequential(nn.Linear(20, 64), lsg.LIF(method="lsg"), nn.Linear(64, 64), lsg.LIF(), nn.Linear(64, CLASSES))
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)


def batch():
    y = torch.randint(CLASSES, (BATCH,))
    return centres[y] + 0.3 * torch.randn(BATCH, 20), y


for _ in range(60):
    x, y = batch()
    loss = nn.functional.cross_entropy(net(x.expand(T, *x.shape)).mean(0), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(repr(loss.item()), torch.rand(1).item())
