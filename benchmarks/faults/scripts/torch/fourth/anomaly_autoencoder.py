"""Anomaly detection: a spiking autoencoder learns benign samples only; malignant ones are recognised by their error."""
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import MinMaxScaler
from torch import nn

SEED = 21
STEPS = 8
torch.manual_seed(SEED)
rng = np.random.default_rng(SEED)

data = load_breast_cancer()
MALIGNANT, BENIGN = 0, 1          # as in data.target_names
benign = data.data[data.target == BENIGN]
malignant = data.data[data.target == MALIGNANT]
rng.shuffle(benign)
n_fit = 200
scaler = MinMaxScaler().fit(benign[:n_fit])
fit_x = torch.tensor(scaler.transform(benign[:n_fit]), dtype=torch.float32)
held_out = np.concatenate([benign[n_fit:], malignant])
is_anomaly = np.concatenate([np.zeros(len(benign) - n_fit), np.ones(len(malignant))])
held_out = torch.tensor(scaler.transform(held_out), dtype=torch.float32)


class Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    def backward(ctx, g):
        (v,) = ctx.saved_tensors
        sig = torch.sigmoid(4 * v)
        return g * 4 * sig * (1 - sig)


class LIFLayer(nn.Module):
    def __init__(self, n_in, n_out, beta=0.7):
        super().__init__()
        self.fc = nn.Linear(n_in, n_out)
        self.beta = beta
        self.v = None

    def reset(self):
        self.v = None

    def forward(self, x):
        i = self.fc(x)
        self.v = i if self.v is None else self.beta * self.v + i
        s = Fire.apply(self.v - 0.5)
        self.v = self.v - 0.5 * s
        return s


class Autoencoder(nn.Module):
    def __init__(self, features=30, code=6):
        super().__init__()
        self.encoder = nn.Sequential(LIFLayer(features, 48), LIFLayer(48, code))
        self.decoder = nn.Sequential(LIFLayer(code, 48))
        self.out = nn.Linear(48, features)

    def forward(self, x):
        for module in self.modules():
            if isinstance(module, LIFLayer):
                module.reset()
        total = 0
        for _ in range(STEPS):
            total = total + self.out(self.decoder(self.encoder(x)))
        return total / STEPS


model = Autoencoder()
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
for epoch in range(80):
    for rows in torch.randperm(n_fit).split(40):
        x = fit_x[rows]
        loss = ((model(x) - x) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 20 == 0:
        print(epoch, loss.item())

with torch.no_grad():
    errors = ((model(held_out) - held_out) ** 2).mean(1)
print("AUC", roc_auc_score(is_anomaly, errors.numpy()))
