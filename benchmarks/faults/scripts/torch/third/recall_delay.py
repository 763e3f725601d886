"""Remember a cue over a delay: recurrent adaptive neurons, backpropagation through time."""
import torch
import torch.nn as nn

torch.manual_seed(31)
CUES, CHANNELS, CUE, DELAY, RECALL = 4, 24, 5, 12, 4
T = CUE + DELAY + RECALL


class ATanSpike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx, g):
        u, = ctx.saved_tensors
        return g / (1 + (3.0 * u).square())


def trials(n):
    """A few channels fire for the cue, all are quiet, and others ask for the answer."""
    cue = torch.randint(CUES, (n,))
    x = (torch.rand(T, n, CHANNELS) < 0.02).float()
    for c in range(CUES):
        rows = (cue == c).nonzero().squeeze(1)
        x[:CUE, rows, 5 * c:5 * c + 5] = (torch.rand(CUE, len(rows), 5) < 0.7).float()
    x[-RECALL:, :, -4:] = (torch.rand(RECALL, n, 4) < 0.8).float()
    return x, cue


class AdaptiveLayer(nn.Module):
    def __init__(self, n_in, n):
        super().__init__()
        self.w_in = nn.Linear(n_in, n)
        self.w_rec = nn.Linear(n, n, bias=False)
        nn.init.orthogonal_(self.w_rec.weight, 0.5)
        self.decay, self.rho, self.jump = 0.85, 0.97, 0.3
        self.noise = 0.05

    def forward(self, x):
        n = x.shape[1]
        v = x.new_zeros(n, self.w_rec.in_features)
        s, a = torch.zeros_like(v), torch.zeros_like(v)
        spikes = []
        for x_t in x:
            v = self.decay * v + 1.5 * self.w_in(x_t) + self.w_rec(s) - s.detach()
            v = v + self.noise * torch.randn_like(v)
            a = self.rho * a + self.jump * s
            s = ATanSpike.apply(v - 0.6 - a)
            spikes.append(s)
        return torch.stack(spikes)


class Readout(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.w = nn.Linear(n, CUES)

    def forward(self, spikes):
        return self.w(spikes[-RECALL:].mean(0))


layer, readout = AdaptiveLayer(CHANNELS, 64), Readout(64)
parameters = [*layer.parameters(), *readout.parameters()]
opt = torch.optim.Adam(parameters, lr=4e-3)
for step in range(300):
    x, cue = trials(48)
    spikes = layer(x)
    loss = nn.functional.cross_entropy(readout(spikes), cue)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0)
    opt.step()
    if step % 50 == 0:
        print(step, round(loss.item(), 3), "rate", round(spikes.mean().item(), 3))

with torch.no_grad():
    x, cue = trials(500)
    print("recalled", (readout(layer(x)).argmax(1) == cue).float().mean().item())
