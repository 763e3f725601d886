"""Learned time constants and thresholds have an optimiser of their own; weights rounded to 4 bits."""
import math

import torch
from torch import nn, Tensor
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit

torch.manual_seed(3)
torch.set_num_threads(1)


def spike(v: Tensor, width: Tensor | float = 1.0) -> Tensor:
    """Heaviside forwards, arctan backwards."""
    smooth = torch.atan(math.pi / 2 * v / width) / math.pi + 0.5
    return (v > 0).float().detach() + smooth - smooth.detach()


class QuantLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.detach().abs().max() / 7
        rounded = torch.round(self.weight / scale) * scale
        weight = self.weight + (rounded - self.weight).detach()
        return nn.functional.linear(x, weight, self.bias)


class LearnedLIF(nn.Module):
    def __init__(self, n: int):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(n))
        self.theta = nn.Parameter(torch.full((n,), 0.8))

    def forward(self, seq: Tensor) -> Tensor:
        decay = torch.sigmoid(self.w)
        v = torch.zeros_like(seq[0])
        spikes = []
        for x in seq.unbind(0):
            v = decay * v + x
            s = spike(v - self.theta)
            v = v * (1 - s.detach())
            spikes.append(s)
        return torch.stack(spikes)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1, self.n1 = QuantLinear(64, 96), LearnedLIF(96)
        self.l2, self.n2 = QuantLinear(96, 96), LearnedLIF(96)
        self.l3 = QuantLinear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        seq = x.expand(5, *x.shape)
        seq = self.n1(self.l1(seq))
        seq = self.n2(self.l2(seq))
        return self.l3(seq).mean(0)


data = load_digits()
split = StratifiedShuffleSplit(1, test_size=0.2, random_state=0)
train_idx, test_idx = next(split.split(data.data, data.target))
inputs = torch.tensor(data.data / 16).float()
classes = torch.tensor(data.target)

model = Classifier()
weights = [p for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters()]
dynamics = [p for m in model.modules() if isinstance(m, LearnedLIF) for p in m.parameters()]
opt_w = torch.optim.SGD(weights, lr=0.2, momentum=0.9, weight_decay=1e-4)
opt_d = torch.optim.Adam(dynamics, lr=5e-3)
for epoch in range(10):
    order = torch.as_tensor(train_idx)[torch.randperm(len(train_idx))]
    for idx in order.split(64):
        loss = nn.functional.cross_entropy(model(inputs[idx]), classes[idx])
        opt_w.zero_grad()
        opt_d.zero_grad()
        loss.backward()
        opt_w.step()
        opt_d.step()
    print(f"epoch {epoch} loss {loss.item():.3f}")

with torch.no_grad():
    acc = (model(inputs[test_idx]).argmax(1) == classes[test_idx]).float().mean()
print(f"test accuracy {acc:.4f}")
