"""Plain torch: neurons with an autograd.Function of its own, trained on points around four centres."""

import torch
from torch import nn

T, CLASSES, BATCH = 8, 4, 32
torch.manual_seed(0)
centres = torch.randn(CLASSES, 20)


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x.abs() < 0.5).float()


class Neurons(nn.Module):
    def __init__(self, threshold=1.0):
        super().__init__()
        self.threshold = threshold
        self.state = None

    def forward(self, current):
        before = torch.zeros_like(current) if self.state is None else self.state
        u = 0.5 * before + current
        spikes = Spike.apply(u - self.threshold)
        self.state = u * (1 - spikes)
        return spikes


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(20, 64)
        self.norm = nn.BatchNorm1d(64)
        self.neurons1 = Neurons()
        self.drop = nn.Dropout(0.1)
        self.second = nn.Linear(64, 64)
        self.neurons2 = Neurons()
        self.out = nn.Linear(64, CLASSES)

    def forward(self, x):
        self.neurons1.state = self.neurons2.state = None
        total = 0
        for _ in range(T):
            spikes = self.drop(self.neurons1(self.norm(self.first(x))))
            total = total + self.out(self.neurons2(self.second(spikes)))
        return total / T


def batch():
    y = torch.randint(CLASSES, (BATCH,))
    return centres[y] + 0.3 * torch.randn(BATCH, 20), y


net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
loss_function = nn.CrossEntropyLoss()
for step in range(80):
    net.train()
    x, y = batch()
    optimizer.zero_grad()
    loss = loss_function(net(x), y)
    loss.backward()
    optimizer.step()
    if step % 40 == 39:
        net.eval()
        with torch.no_grad():
            x, y = batch()
            print(repr(loss.item()), (net(x).argmax(1) == y).float().mean().item(), torch.rand(1).item())
