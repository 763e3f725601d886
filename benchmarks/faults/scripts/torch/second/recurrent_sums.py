# Recurrent spiking net with soft reset. Task: is the sum of the marked values in a sequence high, middle or low?
import numpy as np, torch
from torch import nn

rng = np.random.default_rng(13)
torch.manual_seed(13)
L = 20

def make(n):
    v = rng.random((n, L)).astype('f4')
    m = np.zeros((n, L), 'f4')
    for r in range(n):
        m[r, rng.choice(L, 4, replace=False)] = 1
    s = (v * m).sum(1)
    return torch.from_numpy(np.stack([v, m, v * m], 2)), torch.from_numpy(np.digitize(s, [1.65, 2.35]))

class ATan(torch.autograd.Function):
    alpha = 2.0
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.heaviside(x, torch.ones(()))
    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return g * ATan.alpha / 2 / (1 + (torch.pi / 2 * ATan.alpha * x) ** 2)

class RSNN(nn.Module):
    def __init__(self, n=64, beta=0.9, thr=1.0):
        super().__init__()
        self.inp = nn.Linear(3, n); self.rec = nn.Linear(n, n, bias=False); self.out = nn.Linear(n, 3)
        nn.init.orthogonal_(self.rec.weight, gain=0.2)
        nn.init.uniform_(self.inp.weight, -1.5, 1.5)
        self.beta, self.thr = beta, thr

    def forward(self, seq):
        mem = seq.new_zeros(len(seq), self.rec.in_features)
        spk = torch.zeros_like(mem)
        acc = 0
        for t in range(seq.shape[1]):
            reset = (spk * self.thr).detach()
            mem = self.beta * mem + self.inp(seq[:, t]) + self.rec(spk) - reset
            spk = ATan.apply(mem - self.thr)
            acc = acc + spk
        return self.out(acc / 4)

xtr, ytr = make(1600); xte, yte = make(400)
net = RSNN(); opt = torch.optim.Adam(net.parameters(), lr=5e-3); ce = nn.CrossEntropyLoss()
for ep in range(12):
    for i in torch.randperm(1600).chunk(25):
        opt.zero_grad(); l = ce(net(xtr[i]), ytr[i]); l.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
    if ep % 4 == 3: print(ep, l.item())
with torch.no_grad():
    print('score', (net(xte).argmax(1) == yte).float().mean().item())
