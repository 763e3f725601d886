"""Own leaky neurons; gradients of two mini-batches are added up for each step."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v >= 0).to(v.dtype)

    @staticmethod
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        return g * torch.clamp(1 - v.abs(), min=0)


class LIF(nn.Module):
    def __init__(self, leak=0.7, threshold=1.0):
        super().__init__()
        self.leak = leak
        self.threshold = threshold

    def forward(self, current):  # (T, N, features)
        v = torch.zeros_like(current[0])
        out = []
        for i in current:
            v = self.leak * v + i
            s = Spike.apply(v - self.threshold)
            v = v - s * self.threshold
            out.append(s)
        return torch.stack(out)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(64, 100), nn.Linear(100, 100)])
        self.neurons = nn.ModuleList([LIF(), LIF()])
        self.head = nn.Linear(100, 10)

    def forward(self, x):
        x = x.unsqueeze(0).repeat(8, 1, 1)
        for linear, lif in zip(self.layers, self.neurons):
            x = lif(linear(x))
        return self.head(x.sum(0))


X, Y = load_digits(return_X_y=True)
X = torch.tensor((X - X.mean(0)) / (X.std(0) + 1e-3), dtype=torch.float32)
Y = torch.tensor(Y)
loader = DataLoader(TensorDataset(X[:1400], Y[:1400]), batch_size=20, shuffle=True)

net = Net()
optim = torch.optim.Adam(net.parameters(), lr=1e-3)
accumulation_steps = 2
for epoch in range(8):
    for i, (x, y) in enumerate(loader):
        loss = nn.functional.cross_entropy(net(x), y, reduction="sum") / 20
        (loss / accumulation_steps).backward()
        if (i + 1) % accumulation_steps == 0:
            optim.step()
            optim.zero_grad()
    print(epoch, loss.item())

net.eval()
with torch.no_grad():
    print("accuracy:", (net(X[1400:]).argmax(-1) == Y[1400:]).float().mean().item())
