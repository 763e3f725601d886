"""Gestures before an event camera (made here): a blob moves left, right, up, down, in a circle or back and forth.
Parametric LIF neurons, dropout, and a vote of ten neurons for each class."""
import math
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch.utils.data import DataLoader, Dataset

GESTURES = ("left", "right", "up", "down", "circle", "wave")


class Gestures(Dataset):
    """Frames [T, 2, 12, 12] with numbers of events; channel 1 where it grows brighter."""

    def __init__(self, size, T, seed):
        rng = np.random.RandomState(seed)
        self.samples = []
        for i in range(size):
            label = i % len(GESTURES)
            self.samples.append((self.record(GESTURES[label], T, rng), label))

    @staticmethod
    def record(gesture, T, rng):
        t = np.linspace(-1, 1, T + 1) * 3.5
        zeros, phase = np.zeros_like(t), rng.uniform(0, 2 * math.pi)
        path = {
            "left": (-t, zeros), "right": (t, zeros), "up": (zeros, -t), "down": (zeros, t),
            "circle": (3 * np.cos(t * 0.9 + phase), 3 * np.sin(t * 0.9 + phase)),
            "wave": (3 * np.sin(t * 1.8 + phase), zeros),
        }[gesture]
        x0, y0 = 5.5 + rng.uniform(-1, 1, 2)
        ys, xs = np.mgrid[0:12, 0:12]
        brightness = [np.exp(-((xs - x0 - x) ** 2 + (ys - y0 - y) ** 2) / 3) for x, y in zip(*path)]
        change = 8 * np.diff(np.stack(brightness), axis=0)
        events = np.stack([rng.poisson(np.maximum(-change, 0)), rng.poisson(np.maximum(change, 0))], axis=1)
        return torch.from_numpy(events).float()

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


class GestureNet(nn.Module):
    def __init__(self, channels=16, classes=len(GESTURES)):
        super().__init__()
        def plif():
            return neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True)

        self.features = nn.Sequential(
            layer.Conv2d(2, channels, 3, padding=1, bias=False), layer.BatchNorm2d(channels), plif(), layer.MaxPool2d(2),
            layer.Conv2d(channels, channels, 3, padding=1, bias=False), layer.BatchNorm2d(channels), plif(), layer.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            layer.Flatten(), layer.Dropout(0.3),
            layer.Linear(channels * 9, 10 * classes), plif(),
            layer.VotingLayer(10),
        )

    def forward(self, x):
        return self.classifier(self.features(x))


def main():
    random.seed(0)
    torch.manual_seed(0)
    T = 8
    train_loader = DataLoader(Gestures(420, T, seed=10), batch_size=30, shuffle=True, drop_last=True)
    test_loader = DataLoader(Gestures(180, T, seed=11), batch_size=30)
    net = GestureNet()
    functional.set_step_mode(net, "m")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=9)
    for epoch in range(9):
        net.train()
        for frame, label in train_loader:
            frame = frame.transpose(0, 1)  # [N, T, C, H, W] -> [T, N, C, H, W]
            out_fr = net(frame).mean(0)
            loss = F.mse_loss(out_fr, F.one_hot(label, len(GESTURES)).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(net)
        scheduler.step()
        print(epoch, round(loss.item(), 4))

    net.eval()
    hits = 0
    with torch.no_grad():
        for frame, label in test_loader:
            hits += (net(frame.transpose(0, 1)).mean(0).argmax(1) == label).sum().item()
            functional.reset_net(net)
    print("test_acc", hits / 180)


if __name__ == "__main__":
    main()
