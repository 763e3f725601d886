"""Direction of a moving bar from noisy frames: a small convolutional spiking network written from scratch."""
import argparse
import math

import torch
import torch.nn.functional as F
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--batch-size", type=int, default=50)
parser.add_argument("--lr", type=float, default=6e-3)
parser.add_argument("--tau-ms", type=float, default=6.0)
parser.add_argument("--noise", type=float, default=0.03)
args = parser.parse_args()
DT_MS = 1.0
SIZE = 10


def make_bars(n, generator):
    """Frames [n, steps, 1, SIZE, SIZE]; classes: right, left, down, up."""
    direction = torch.randint(0, 4, (n,), generator=generator)
    start = torch.randint(0, SIZE, (n,), generator=generator)
    frames = torch.zeros(n, args.steps, 1, SIZE, SIZE)
    for k in range(n):
        sign = 1 if direction[k] in (0, 2) else -1
        for t in range(args.steps):
            place = int(start[k] + sign * t) % SIZE
            if direction[k] < 2:
                frames[k, t, 0, :, place] = 1
            else:
                frames[k, t, 0, place, :] = 1
    flips = (torch.rand(frames.shape, generator=generator) < args.noise).float()
    return (frames + flips).clamp(max=1), direction


class LIF(nn.Module):
    def __init__(self, threshold=1.0):
        super().__init__()
        self.beta = math.exp(-DT_MS / args.tau_ms)
        self.threshold = threshold
        self.v = None

    def clear(self):
        self.v = None

    def forward(self, current):
        self.v = current if self.v is None else self.beta * self.v + current
        distance = self.v - self.threshold
        soft = torch.sigmoid(4 * distance)
        hard = (distance > 0).float()
        spikes = hard.detach() - soft.detach() + soft
        self.v = self.v - self.threshold * spikes.detach()
        return spikes


class BarNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 5, padding=2, padding_mode="circular")
        self.lif1 = LIF(0.8)
        self.conv2 = nn.Conv2d(8, 16, 5, padding=2, padding_mode="circular")
        self.lif2 = LIF(0.8)
        self.head = nn.Linear(16 * 25, 4)

    def forward(self, x):
        self.lif1.clear()
        self.lif2.clear()
        votes = 0
        for frame in x.transpose(0, 1):
            s = self.lif1(self.conv1(frame))
            s = self.lif2(self.conv2(s))
            votes = votes + self.head(F.avg_pool2d(s, 2).flatten(1))
        return votes / args.steps


def main():
    torch.manual_seed(4)
    g = torch.Generator().manual_seed(11)
    train_x, train_y = make_bars(700, g)
    test_x, test_y = make_bars(300, g)
    net = BarNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        running = 0.0
        for rows in torch.randperm(len(train_y)).split(args.batch_size):
            frames, labels = train_x[rows], train_y[rows]
            loss = F.cross_entropy(net(frames), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            running += loss.item() * len(rows)
        print(f"epoch {epoch}: {running / len(train_y):.3f}")
    with torch.no_grad():
        correct = (net(test_x).argmax(1) == test_y).float().mean()
    print("accuracy", correct.item())


if __name__ == "__main__":
    main()
