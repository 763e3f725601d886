"""A residual network of lsg's neurons, in a loop of its own."""

import torch
from torch import nn

import lsgcli as lsg
from benchmarks.watched import Record

T, CHANNELS = 4, 32


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm1, self.lif1 = (
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            nn.BatchNorm2d(CHANNELS),
            lsg.LIF(method="lsg"),
        )
        self.second, self.norm2, self.lif2 = (
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            nn.BatchNorm2d(CHANNELS),
            lsg.LIF(method="lsg"),
        )

    def forward(self, x):
        y = self.lif1(per_step(nn.Sequential(self.first, self.norm1), x))
        return self.lif2(per_step(nn.Sequential(self.second, self.norm2), y) + x)


def per_step(layers, x):
    return layers(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.lif = nn.Conv2d(1, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), lsg.LIF(method="lsg")
        self.blocks = nn.Sequential(*(Block() for _ in range(4)))
        self.out = nn.Linear(CHANNELS, 10)

    def forward(self, x):
        x = self.lif(per_step(nn.Sequential(self.stem, self.norm), x.expand(T, *x.shape)))
        return self.out(self.blocks(x).mean((3, 4))).mean(0)


torch.manual_seed(0)
record, net = Record(), ResNet()
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
for x, y in record.batches(32):
    loss = nn.functional.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    record.step(loss)
record.write()
