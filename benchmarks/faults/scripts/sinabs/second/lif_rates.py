"""Sinabs layers over [batch, time, features]: LIF, then an exponential leak as the readout."""
import torch
import torch.nn as nn
import sinabs
import sinabs.layers as sl
from sinabs.activation import SingleSpike, SingleExponential
from sklearn.datasets import load_digits

torch.manual_seed(12)
T = 16
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16).float(), torch.tensor(y)
perm = torch.randperm(len(y))
x, y = x[perm], y[perm]


def rasterise(values):
    """Bernoulli spikes of the pixels."""
    return (torch.rand(len(values), T, 64) < values[:, None]).float()


model = nn.Sequential(
    nn.Linear(64, 100),
    sl.LIF(tau_mem=10.0, norm_input=False, spike_fn=SingleSpike, surrogate_grad_fn=SingleExponential(grad_width=0.5)),
    nn.Linear(100, 10),
    sl.ExpLeak(tau_mem=20.0, norm_input=True),
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.CrossEntropyLoss()

for epoch in range(6):
    for i in range(0, 1440, 60):
        sinabs.reset_states(model)
        optimizer.zero_grad()
        out = model(rasterise(x[i : i + 60])).sum(1)
        loss = criterion(out, y[i : i + 60])
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.3f}")

sinabs.reset_states(model)
with torch.no_grad():
    prediction = model(rasterise(x[1440:])).sum(1).argmax(1)
print("accuracy", (prediction == y[1440:]).float().mean().item())
