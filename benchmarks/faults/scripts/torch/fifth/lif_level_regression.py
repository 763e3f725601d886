"""How strong is the stimulus? Noisy sensor signals in, one number out, read from the mean of the last spiking layer."""
import lsgcli as lsg
import torch
from torch import nn


def signals(n, seed):
    """Signals (T=12, n, 16) in volts, and the strength of the stimulus (n, 1)."""
    g = torch.Generator().manual_seed(seed)
    strength = torch.rand(n, 1, generator=g)
    profile = torch.exp(-((torch.arange(16) - 15 * torch.rand(n, 1, generator=g)) / 3) ** 2)
    course = torch.sin(torch.pi * torch.arange(1, 13) / 13).view(12, 1, 1)
    clean = course * (0.3 + strength) * profile
    return 2 * clean + 0.1 * torch.randn(12, n, 16, generator=g), 2 * strength - 1


class Estimator(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.embed = nn.Linear(16, hidden)
        self.spikes1 = lsg.LIF(decay=0.8, threshold=0.5, reset="soft", method="trainable-decay", surrogate="sigmoid")
        self.mix = nn.Linear(hidden, hidden)
        self.spikes2 = lsg.LIF(decay=0.8, threshold=0.5, reset="soft", method="trainable-decay", surrogate="sigmoid")
        self.read = nn.Linear(hidden, 1)

    def forward(self, x):
        x = self.spikes1(self.embed(x))
        x = self.spikes2(self.mix(x))
        return self.read(x).mean(0)


torch.manual_seed(14)
x, y = signals(1200, seed=1)
x_test, y_test = signals(400, seed=2)
model = Estimator()
neurons = [p for n, p in model.named_parameters() if n.startswith("spikes")]
synapses = [p for n, p in model.named_parameters() if not n.startswith("spikes")]
optimizer = torch.optim.AdamW([{"params": synapses}, {"params": neurons, "lr": 1e-3, "weight_decay": 0.0}], lr=3e-3)
warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.2, total_iters=30)
for epoch in range(15):
    total = 0.0
    for rows in torch.randperm(1200).split(48):
        prediction = model(x[:, rows])
        loss = nn.functional.mse_loss(prediction, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
        total += loss.item()
    if epoch % 5 == 0:
        print(f"{epoch} {total / 25:.4f}")

with torch.no_grad():
    error = ((model(x_test) - y_test) ** 2).mean()
print("R2", 1 - (error / y_test.var()).item())
