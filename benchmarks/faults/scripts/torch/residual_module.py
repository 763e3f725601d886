"""Residual network with lsg's neurons, batch normalisation over time, dropout before the head."""
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
import lsgcli as lsg

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
T = 4
torch.manual_seed(0)
torch.set_num_threads(1)


def over_time(module, x):
    t, n = x.shape[:2]
    return module(x.flatten(0, 1)).unflatten(0, (t, n))


class SpikingBlock(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.lif_a = lsg.LIF(decay=0.3)
        self.conv_a = nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out))
        self.lif_b = lsg.LIF(decay=0.3)
        self.conv_b = nn.Sequential(nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out))
        self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        spikes = self.lif_a(x)
        y = over_time(self.conv_a, spikes)
        y = over_time(self.conv_b, self.lif_b(y))
        return y + over_time(self.shortcut, spikes)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.stage1 = SpikingBlock(16, 16, 1)
        self.stage2 = SpikingBlock(16, 32, 2)
        self.last = lsg.LIF(decay=0.3)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.stem(x)
        x = x.unsqueeze(0).expand(T, -1, -1, -1, -1)
        x = self.last(self.stage2(self.stage1(x)))
        x = x.mean(dim=(-2, -1))
        return self.head(self.dropout(x)).mean(0)


d = load_digits()
images = torch.tensor(d.images / 16, dtype=torch.float32)[:, None]
labels = torch.tensor(d.target)
order = torch.randperm(len(labels))
train, test = order[:1400], order[1400:]

net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, 0.2, total_steps=EPOCHS * 28)
for epoch in range(EPOCHS):
    net.train()
    for batch in train[torch.randperm(1400)].split(50):
        loss = F.cross_entropy(net(images[batch]), labels[batch])
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
    print(epoch, f"{loss.item():.3f}")

net.eval()
with torch.no_grad():
    acc = (net(images[test]).argmax(1) == labels[test]).float().mean().item()
print("test accuracy", round(acc, 4))
