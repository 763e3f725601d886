"""A recurrent network of adaptive neurons remembers which of eight groups of inputs gave the cue, until it is asked."""
import torch
from norse.torch import LIFParameters, LSNNRecurrent, LI
from norse.torch.functional.lsnn import LSNNParameters
from torch import nn

DT = 0.001
GROUPS, PER_GROUP = 8, 5
CUE, DELAY, ANSWER = 12, 14, 10


def trials(n):
    """Spikes (time, n, inputs) and cues: the last eight inputs are noise and the question."""
    cue = torch.randint(0, GROUPS, (n,))
    rate = torch.full((CUE + DELAY + ANSWER, n, GROUPS * PER_GROUP + 8), 0.03)
    for group in range(GROUPS):
        rate[:CUE, cue == group, group * PER_GROUP:(group + 1) * PER_GROUP] = 0.25
    rate[CUE + DELAY:, :, -8:] = 0.3
    return torch.bernoulli(rate), cue


class Memory(nn.Module):
    def __init__(self, n_in, n_hidden, n_out):
        super().__init__()
        lif = LIFParameters(method="super", alpha=torch.tensor(30.0))
        self.recurrent = LSNNRecurrent(
            n_in, n_hidden,
            p=LSNNParameters(tau_mem_inv=1 / torch.tensor(0.02), tau_syn_inv=1 / torch.tensor(0.01),
                             tau_adapt_inv=1 / torch.tensor(0.05), beta=torch.tensor(0.4),
                             v_th=torch.tensor(0.5), method=lif.method, alpha=lif.alpha),
            dt=DT)
        self.out = nn.Linear(n_hidden, n_out)
        self.readout = LI(dt=DT)
        with torch.no_grad():
            self.recurrent.input_weights.normal_(0.0, 1.2)
            self.recurrent.recurrent_weights.normal_(0.0, 0.15)

    def forward(self, spikes):
        hidden, _ = self.recurrent(spikes)
        voltage, _ = self.readout(self.out(hidden))
        return voltage[CUE + DELAY:].mean(0)


torch.manual_seed(12)
model = Memory(GROUPS * PER_GROUP + 8, 64, GROUPS)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
loss_fn = nn.CrossEntropyLoss()
for iteration in range(120):
    spikes, cue = trials(48)
    loss = loss_fn(model(spikes), cue)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 2.0)
    optimizer.step()
    if iteration % 20 == 0:
        print("iteration", iteration, "loss", loss.item())

spikes, cue = trials(500)
with torch.no_grad():
    right = (model(spikes).argmax(1) == cue).float().mean().item()
print("answers right", right)
