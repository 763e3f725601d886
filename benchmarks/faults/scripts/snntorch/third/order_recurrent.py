"""Which of two channels fired first, and was a third between them? Recurrent neurons of snnTorch, 6 classes."""
from itertools import permutations

import snntorch as snn
import torch
from snntorch import surrogate
from torch import nn

ORDERS = list(permutations(range(3)))
T, PER = 21, 8


def sample(n):
    label = torch.randint(len(ORDERS), (n,))
    x = torch.zeros(T, n, 3 * PER)
    for k, order in enumerate(label.tolist()):
        for place, channel in enumerate(ORDERS[order]):
            t = 7 * place + torch.randint(0, 4, (PER,))
            x[t, k, channel * PER + torch.arange(PER)] = 1
    return x, label


class OrderNet(nn.Module):
    def __init__(self, hidden=80):
        super().__init__()
        self.embed = nn.Linear(3 * PER, hidden)
        self.cells = snn.RLeaky(beta=0.9, linear_features=hidden, spike_grad=surrogate.atan(alpha=2.0))
        self.decide = nn.Linear(hidden, len(ORDERS))
        self.readout = snn.Leaky(beta=0.95, reset_mechanism="none")

    def forward(self, x):
        spk, mem = self.cells.init_rleaky()
        out = self.readout.init_leaky()
        for frame in x:
            spk, mem = self.cells(2.0 * self.embed(frame), spk, mem)
            _, out = self.readout(self.decide(spk), out)
        return out


torch.manual_seed(14)
model = OrderNet()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=260)
for i in range(260):
    x, label = sample(40)
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), label)
    loss.backward()
    optimizer.step()
    scheduler.step()
    if i % 40 == 0:
        print("step", i, "loss", loss.item())
model.eval()
with torch.no_grad():
    x, label = sample(500)
    print("accuracy", (model(x).argmax(1) == label).float().mean().item())
