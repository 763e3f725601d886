"""norse: a sequence of modules that runs over time itself."""

import norse.torch as norse
import torch
from torch import nn

T, CLASSES, BATCH = 10, 4, 32
torch.manual_seed(0)
centres = torch.randn(CLASSES, 20)
net = norse.SequentialState(nn.Linear(20, 64), norse.LIF(), nn.Linear(64, CLASSES), norse.LI())
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)


def batch():
    y = torch.randint(CLASSES, (BATCH,))
    return 5 * (centres[y] + 0.3 * torch.randn(BATCH, 20)), y


for _ in range(60):
    x, y = batch()
    outputs, _ = net(x.expand(T, *x.shape))
    loss = nn.functional.cross_entropy(outputs.max(0).values, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(repr(loss.item()), torch.rand(1).item())
