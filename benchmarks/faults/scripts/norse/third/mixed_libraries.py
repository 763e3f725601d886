"""Population encoding of norse, hidden neurons of snnTorch, a readout of norse; wine."""
import norse.torch as norse
import snntorch as snn
import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import MinMaxScaler
from torch import nn

torch.manual_seed(64)
FIELDS, STEPS = 6, 15


def fields(x):
    """Each feature excites the units whose centre is near."""
    centres = torch.linspace(0, 1, FIELDS)
    return torch.exp(-((x.unsqueeze(-1) - centres) ** 2) / (2 * 0.12**2)).flatten(1)


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(13 * FIELDS, 40)
        self.lif = snn.Leaky(beta=0.85, threshold=0.5)
        self.readout = norse.SequentialState(nn.Linear(40, 3), norse.LICell())

    def forward(self, x):
        mem, state, trace = self.lif.init_leaky(), None, []
        for _ in range(STEPS):
            spikes = torch.bernoulli(0.5 * x)
            spk, mem = self.lif(self.fc(spikes), mem)
            v, state = self.readout(spk, state)
            trace.append(v)
        return torch.stack(trace)


x, y = load_wine(return_X_y=True)
x = torch.tensor(MinMaxScaler().fit_transform(x), dtype=torch.float32)
y = torch.tensor(y)
order = torch.randperm(178)
x, y = fields(x[order]), y[order]
model = Mixed()
optim = torch.optim.Adamax(model.parameters(), lr=1e-2)
for epoch in range(40):
    for i in range(0, 120, 15):
        voltages = model(x[i:i + 15])
        loss = nn.functional.cross_entropy(5 * voltages.mean(0), y[i:i + 15])
        optim.zero_grad()
        loss.backward()
        optim.step()
    if epoch % 10 == 0:
        print(epoch, loss.item())
with torch.no_grad():
    print("accuracy", (model(x[120:]).mean(0).argmax(1) == y[120:]).float().mean().item())
