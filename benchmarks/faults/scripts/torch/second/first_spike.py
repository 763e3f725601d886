"""Exact spike times of non-leaky neurons (no surrogate at all): z = exp(t), loss on the first spike."""
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(19)
LATE = 1e3


def first_spikes(z_in, weight):
    """Spike times in the z domain of neurons with exponential synapses and threshold 1."""
    order = z_in.argsort(1)
    z = z_in.gather(1, order)
    w = weight[order]
    total = w.cumsum(1)
    weighted = (w * z.unsqueeze(2)).cumsum(1)
    z_out = weighted / (total - 1).clamp(min=1e-6)
    following = torch.cat([z[:, 1:], torch.full_like(z[:, :1], LATE)], 1).unsqueeze(2)
    valid = (total > 1) & (z_out <= following) & (z_out >= z.unsqueeze(2))
    return torch.where(valid, z_out, torch.full_like(z_out, LATE)).min(1).values


class TimeNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Parameter(torch.rand(64, 60) * 0.14)
        self.output = nn.Parameter(torch.rand(60, 10) * 0.15)

    def forward(self, x):
        z = torch.exp(1.8 * (1 - x))
        return first_spikes(first_spikes(z, self.hidden), self.output)

    def penalty(self):
        return sum(torch.relu(1.1 - w.sum(0)).mean() for w in (self.hidden, self.output))


x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
p = torch.randperm(1797)
fit, held = p[:1200], p[1200:]
net = TimeNetwork()
optimizer = torch.optim.Adam(net.parameters(), lr=8e-3)
for epoch in range(8):
    for rows in fit[torch.randperm(1200)].split(40):
        z = net(x[rows])
        loss = nn.functional.cross_entropy(-4 * torch.log(z.clamp(1e-3, LATE)), y[rows]) + 10 * net.penalty()
        optimizer.zero_grad()
        loss.backward()
        for w in net.parameters():
            w.grad.nan_to_num_(0, 0, 0).clamp_(-1, 1)
        optimizer.step()
with torch.no_grad():
    print("accuracy", (net(x[held]).argmin(1) == y[held]).float().mean().item())
