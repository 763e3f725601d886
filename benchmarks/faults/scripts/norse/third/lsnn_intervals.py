"""Two pulses: was the second a short, middle or long time after the first? LSNN with adaptive thresholds."""
import norse.torch as norse
import torch
from norse.torch.functional.lsnn import LSNNParameters

torch.manual_seed(26)
STEPS, INPUTS, GAPS = 36, 16, (4, 12, 22)


def make(n):
    which = torch.randint(len(GAPS), (n,))
    first = torch.randint(2, 8, (n,))
    second = first + torch.tensor(GAPS)[which] + torch.randint(-1, 2, (n,))
    x = torch.zeros(STEPS, n, INPUTS)
    rows = torch.arange(n)
    for width in range(2):
        x[first + width, rows, :8] = 1
        x[second + width, rows, 8:] = 1
    return x, which


class Intervals(torch.nn.Module):
    def __init__(self, hidden=60):
        super().__init__()
        p = LSNNParameters(v_th=torch.tensor(0.4), tau_mem_inv=torch.tensor(1 / 0.03), tau_adapt_inv=torch.tensor(1 / 0.3), v_leak=torch.tensor(0.0), v_reset=torch.tensor(0.0), alpha=20.0)
        self.recurrent = norse.LSNNRecurrentCell(INPUTS, hidden, p=p)
        self.linear = torch.nn.Linear(hidden, len(GAPS), bias=False)
        self.readout = norse.LICell()

    def forward(self, x):
        state = memory = None
        total = 0.0
        for frame in x:
            z, state = self.recurrent(2 * frame, state)
            v, memory = self.readout(self.linear(z), memory)
            total = total + v / STEPS
        return total


model = Intervals()
optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(130):
    x, which = make(40)
    optimiser.zero_grad()
    loss = torch.nn.functional.cross_entropy(10 * model(x), which)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    if step % 20 == 0:
        print("step", step, "loss", loss.item())
with torch.no_grad():
    x, which = make(400)
    print("accuracy", (model(x).argmax(1) == which).float().mean().item())
