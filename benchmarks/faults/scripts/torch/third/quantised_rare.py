# Weights of four bits (straight-through), and a rare class: is it an eight? Balanced accuracy.
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score

torch.manual_seed(88)


class QuantLinear(torch.nn.Linear):
    levels = 7

    def forward(self, x):
        scale = self.weight.detach().abs().max() / self.levels
        q = torch.round(self.weight / scale) * scale
        q = self.weight + (q - self.weight).detach()
        return F.linear(x, q, self.bias)


def spike(v, threshold=1.0, width=0.5):
    hard = (v >= threshold).float()
    soft = torch.clamp((v - threshold) / (2 * width) + 0.5, 0, 1)
    return soft + (hard - soft).detach()


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = QuantLinear(64, 24)
        self.l2 = QuantLinear(24, 8)
        self.l3 = torch.nn.Linear(8, 1)

    def forward(self, x, steps=8):
        v1, v2, out = torch.zeros(len(x), 24), torch.zeros(len(x), 8), 0
        for _ in range(steps):
            v1 = 0.8 * v1 + 2 * self.l1(x)
            s1 = spike(v1)
            v1 = v1 - s1.detach()
            v2 = 0.8 * v2 + 2 * self.l2(s1)
            s2 = spike(v2)
            v2 = v2 - s2.detach()
            out = out + self.l3(s2)
        return out.squeeze(-1)


images, digit = load_digits(return_X_y=True)
x = torch.tensor(images / 16, dtype=torch.float32)
y = torch.tensor(digit == 8, dtype=torch.float32)
order = torch.randperm(len(y))
fit, held = order[:1300], order[1300:]
positive = y[fit].sum()
pos_weight = (len(fit) - positive) / positive
net = Net()
optimiser = torch.optim.Adam(net.parameters(), lr=8e-3)
for epoch in range(10):
    for rows in fit[torch.randperm(len(fit))].split(64):
        loss = F.binary_cross_entropy_with_logits(net(x[rows]), y[rows], pos_weight=pos_weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(epoch, float(loss.detach()))
with torch.no_grad():
    found = (net(x[held]) > 0).float()
print("balanced accuracy", balanced_accuracy_score(y[held], found))
