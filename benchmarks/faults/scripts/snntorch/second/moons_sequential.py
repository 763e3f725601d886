"""Interleaved spirals of three classes, a sequential network with hidden states kept in its neurons."""
import torch
import snntorch as snn
from snntorch import utils

generator = torch.Generator().manual_seed(23)
torch.manual_seed(23)


def spirals(per_class):
    xs, ys = [], []
    for c in range(3):
        r = torch.linspace(0.1, 1, per_class)
        phi = r * 4 + c * 2.0944 + 0.12 * torch.randn(per_class, generator=generator)
        xs.append(torch.stack([r * phi.cos(), r * phi.sin()], 1))
        ys.append(torch.full((per_class,), c))
    return torch.cat(xs), torch.cat(ys)


x, y = spirals(300)
order = torch.randperm(len(y), generator=generator)
x, y = x[order], y[order]
n_train = 720

net = torch.nn.Sequential(
    torch.nn.Linear(2, 80),
    snn.Leaky(beta=0.8, init_hidden=True),
    torch.nn.Linear(80, 80),
    snn.Leaky(beta=0.8, init_hidden=True),
    torch.nn.Linear(80, 3),
)


def run(batch, steps=10):
    utils.reset(net)
    return sum(net(3 * batch) for _ in range(steps)) / steps


opt = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(40):
    perm = torch.randperm(n_train, generator=generator)
    for part in perm.chunk(9):
        loss = torch.nn.functional.cross_entropy(run(x[:n_train][part]), y[:n_train][part])
        opt.zero_grad()
        loss.backward()
        opt.step()

with torch.no_grad():
    hits = run(x[n_train:]).argmax(1).eq(y[n_train:])
print("test accuracy", hits.float().mean().item())
