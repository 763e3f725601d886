"""A hundred steps with a spike of the input in every fiftieth step, read out by its last potential."""
import snntorch as snn
import torch
from snntorch import spikegen
from torch import nn

torch.manual_seed(33)
T, N = 100, 40
prototypes = torch.rand(6, N) * 90


def draw(n):
    y = torch.randint(6, (n,))
    when = (prototypes[y] + 4 * torch.randn(n, N)).round().long().clamp(0, T - 1)
    return torch.zeros(T, n, N).scatter_(0, when[None], 1.0), y


fc = nn.Linear(N, 50, bias=False)
lif = snn.Leaky(beta=0.97, threshold=0.4)
out = nn.Linear(50, 6, bias=False)
opt = torch.optim.Adam([*fc.parameters(), *out.parameters()], lr=1e-2)


def logits(x):
    mem, acc = lif.init_leaky(), 0.0
    for t, currents in enumerate(fc(x)):
        spk, mem = lif(currents, mem)
        acc = acc + out(spk) * (1 + t / T)
    return acc


for i in range(70):
    x, y = draw(32)
    loss = nn.functional.cross_entropy(logits(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if i % 10 == 0:
        print(i, loss.item(), "input rate", x.mean().item())
with torch.no_grad():
    x, y = draw(300)
    print("accuracy", (logits(x).argmax(1) == y).float().mean().item())
