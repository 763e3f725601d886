"""Regression with membranes: disease progression-like targets from a nonlinear function of five features; the output is the last
membrane potential of a leaky integrator without reset."""
import numpy as np
import snntorch as snn
import torch
from snntorch import surrogate
from sklearn.datasets import make_friedman2
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

torch.manual_seed(0)
np.random.seed(0)

X, y = make_friedman2(n_samples=1500, noise=10.0, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)
x_scaler, y_scaler = StandardScaler(), StandardScaler()
X_train = x_scaler.fit_transform(X_train)
X_test = x_scaler.transform(X_test)
y_train = y_scaler.fit_transform(y_train.reshape(-1, 1))
X_train, X_test, y_train = (torch.tensor(a, dtype=torch.float32) for a in (X_train, X_test, y_train))


class RegressionNet(nn.Module):
    def __init__(self, steps=12, hidden=96):
        super().__init__()
        self.steps = steps
        grad = surrogate.atan(alpha=2.0)
        self.fc1 = nn.Linear(4, hidden)
        self.lif1 = snn.Leaky(beta=torch.full((hidden,), 0.8), learn_beta=True, spike_grad=grad, threshold=0.5)
        self.fc2 = nn.Linear(hidden, hidden)
        self.syn2 = snn.Synaptic(alpha=0.6, beta=0.8, spike_grad=grad, threshold=0.5)
        self.fc3 = nn.Linear(hidden, 1)
        self.out = snn.Leaky(beta=0.9, learn_beta=True, reset_mechanism="none")

    def forward(self, x):
        mem1 = self.lif1.reset_mem()
        syn2, mem2 = self.syn2.reset_mem()
        mem3 = self.out.reset_mem()
        for _ in range(self.steps):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, syn2, mem2 = self.syn2(self.fc2(spk1), syn2, mem2)
            _, mem3 = self.out(self.fc3(spk2), mem3)
        return mem3


model = RegressionNet()
epochs, size = 30, 50
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.93)
criterion = nn.SmoothL1Loss()
for epoch in range(epochs):
    order = np.random.permutation(len(X_train))
    for start in range(0, len(order), size):
        rows = order[start:start + size]
        optimizer.zero_grad()
        loss = criterion(model(X_train[rows]), y_train[rows])
        loss.backward()
        optimizer.step()
    scheduler.step()
    if epoch % 5 == 0:
        print(f"epoch {epoch}: loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    predicted = y_scaler.inverse_transform(model(X_test).numpy())
print("R2:", r2_score(y_test, predicted))
