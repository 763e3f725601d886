"""Made event frames: a bar that moves in one of four directions. Multi-step network, time comes first."""
import random

import numpy as np
import torch
from torch import nn
from spikingjelly.activation_based import functional, layer, neuron, surrogate

seed = 31
random.seed(seed)
np.random.seed(seed)
torch.manual_seed(seed)

T, SIDE, BATCH = 12, 12, 12


def events(n):
    """[sample, time, polarity, y, x] and the direction."""
    frames = np.zeros((n, T, 2, SIDE, SIDE), dtype=np.float32)
    labels = np.random.randint(0, 4, n)
    for i, c in enumerate(labels):
        start, width = np.random.randint(0, SIDE), np.random.randint(1, 3)
        sign = 1 if c % 2 == 0 else -1
        for t in range(T):
            for w in range(width):
                on, off = (start + sign * t + w) % SIDE, (start + sign * (t - 2) + w) % SIDE
                if c < 2:
                    frames[i, t, 0, :, on], frames[i, t, 1, :, off] = 1, 1
                else:
                    frames[i, t, 0, on, :], frames[i, t, 1, off, :] = 1, 1
    frames[np.random.rand(*frames.shape) < 0.02] = 1
    keep = np.random.rand(*frames.shape) < 0.8
    return torch.from_numpy(frames * keep), torch.from_numpy(labels)


class Classifier(nn.Module):
    def __init__(self, channels=8):
        super().__init__()
        self.features = nn.Sequential(
            layer.Conv2d(2, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True),
            layer.MaxPool2d(2),
            layer.Conv2d(channels, channels, 3, padding=1, bias=False),
            layer.BatchNorm2d(channels),
            neuron.ParametricLIFNode(init_tau=4.0, surrogate_function=surrogate.ATan(), detach_reset=True),
            layer.AvgPool2d(2),
            layer.Flatten(),
        )
        self.head = layer.Linear(channels * 9, 4)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        x = x.transpose(0, 1)  # time, sample, ...
        return self.head(self.features(x)).mean(0)


xs, ys = events(480)
xt, yt = events(156)
net = Classifier()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)

for epoch in range(4):
    net.train()
    for pick in torch.randperm(len(ys)).split(BATCH):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(xs[pick]), ys[pick])
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    lr_scheduler.step()
    print(epoch, round(loss.item(), 4))

net.eval()
with torch.no_grad():
    right = 0
    for frames, label in zip(xt.split(BATCH), yt.split(BATCH)):
        right += (net(frames).argmax(1) == label).sum().item()
        functional.reset_net(net)
print("accuracy", right / len(yt))
