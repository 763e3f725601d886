"""Regression of Friedman's function with spiking layers; targets are standardised for training."""
import torch
from sklearn.datasets import make_friedman1
from sklearn.metrics import r2_score
from torch import nn


class Fire(torch.autograd.Function):
    generate_vmap_rule = False

    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    def backward(ctx, g):
        v = ctx.saved_tensors[0]
        s = torch.sigmoid(5 * v)
        return g * 5 * s * (1 - s)


class IF(nn.Module):
    """Integrate and fire over the first dimension, which is time."""

    def forward(self, currents):
        v, out = torch.zeros_like(currents[0]), []
        for i in currents:
            v = v + i
            s = Fire.apply(v - 1)
            v = v - s.detach()
            out.append(s)
        return torch.stack(out)


class Regressor(nn.Module):
    def __init__(self, steps=12):
        super().__init__()
        self.steps = steps
        self.layers = nn.Sequential(nn.Linear(10, 96), IF(), nn.Linear(96, 96), IF())
        self.last = nn.Linear(96, 1)

    def forward(self, x):
        spikes = self.layers(x.expand(self.steps, *x.shape))
        return self.last(spikes.mean(0)).squeeze(1), spikes


def fit(model, x, y, epochs=30, penalty=1e-3):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for epoch in range(epochs):
        for rows in torch.randperm(len(y)).split(64):
            prediction, spikes = model(x[rows])
            error = (prediction - y[rows]).square().mean()
            loss = error + penalty * spikes.mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        if epoch % 6 == 0:
            print("epoch", epoch, "error", error.item(), "rate", spikes.mean().item())


torch.manual_seed(60)
features, values = make_friedman1(1100, noise=0.5, random_state=60)
features = torch.tensor(features, dtype=torch.float32) * 2 - 1
values = torch.tensor(values, dtype=torch.float32)
mean, std = values[:800].mean(), values[:800].std()
model = Regressor()
fit(model, features[:800], (values[:800] - mean) / std)
with torch.no_grad():
    predicted = model(features[800:])[0] * std + mean
print("R2", r2_score(values[800:].numpy(), predicted.numpy()))
