"""snntorch: Leaky neurons stepped in a loop, read from their potentials."""

import snntorch
import torch
from torch import nn

T, CLASSES, BATCH = 8, 4, 32
torch.manual_seed(0)
centres = torch.randn(CLASSES, 20)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(20, 64)
        self.lif1 = snntorch.Leaky(beta=0.8)
        self.out = nn.Linear(64, CLASSES)
        self.lif2 = snntorch.Leaky(beta=0.8, reset_mechanism="none")

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        for _ in range(T):
            spikes, mem1 = self.lif1(self.first(x), mem1)
            _, mem2 = self.lif2(self.out(spikes), mem2)
        return mem2


def batch():
    y = torch.randint(CLASSES, (BATCH,))
    return centres[y] + 0.3 * torch.randn(BATCH, 20), y


net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
for _ in range(60):
    x, y = batch()
    loss = nn.functional.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(repr(loss.item()), torch.rand(1).item())
