"""Pattern generation, a usual test of learning rules: fixed random spike trains and a cue drive LSNN neurons; a leaky readout
draws one of three curves, the one that the cue asks for."""
import math

import torch
from norse.torch import LICell, LIParameters, LSNNParameters, LSNNRecurrentCell

torch.manual_seed(9)
STEPS, INPUTS, HIDDEN, CUES = 50, 30, 100, 3

frozen = (torch.rand(STEPS, 1, INPUTS) < 0.1).float()
t = torch.linspace(0, 1, STEPS)
curves = torch.stack([
    torch.sin(2 * math.pi * t) + 0.4 * torch.sin(6 * math.pi * t),
    torch.cos(2 * math.pi * t) - 1 + 0.5 * torch.sin(4 * math.pi * t),
    1.5 * torch.sin(3 * math.pi * t) * (1 - t),
])


class Generator(torch.nn.Module):
    def __init__(self):
        super().__init__()
        p = LSNNParameters(tau_syn_inv=torch.tensor(1 / 0.004), tau_mem_inv=torch.tensor(1 / 0.01), v_th=torch.tensor(0.3),
                           alpha=torch.tensor(30.0), tau_adapt_inv=torch.tensor(1 / 0.05), beta=torch.tensor(0.2))
        self.cell = LSNNRecurrentCell(INPUTS + CUES, HIDDEN, p=p)
        self.read = torch.nn.Linear(HIDDEN, 1)
        self.li = LICell(LIParameters(tau_syn_inv=torch.tensor(1 / 0.003), tau_mem_inv=torch.tensor(1 / 0.006)))

    def forward(self, cue):
        hint = torch.nn.functional.one_hot(cue, CUES).float()
        state = li_state = None
        values = []
        for step in frozen:
            x = torch.cat([step.expand(len(cue), -1), hint], dim=1)
            spikes, state = self.cell(x, state)
            v, li_state = self.li(self.read(spikes), li_state)
            values.append(v)
        return torch.stack(values, dim=1)          # batch, time, 1


model = Generator()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
cues = torch.arange(CUES)
for iteration in range(250):
    optimizer.zero_grad()
    drawn = model(cues)
    loss = ((drawn.squeeze(-1) - curves) ** 2).mean()
    loss.backward()
    optimizer.step()
    if iteration % 50 == 0:
        print(f"iteration {iteration}, mean squared error {loss.item():.4f}")
with torch.no_grad():
    error = (model(cues).squeeze(-1) - curves) ** 2
print("explained variance", 1 - error.mean().item() / curves.var().item())
