"""Predictive maintenance: vibration of a machine, one recording in six has a fault. One logit, early stopping on validation recordings."""
import copy
import math

import snntorch as snn
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import nn


def vibration(n, seed):
    """Recordings (n, 60), 1 where there is a fault: short bursts."""
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(60) / 60
    base = torch.sin(2 * math.pi * (5 + torch.rand(n, 1, generator=g)) * t + 6 * torch.rand(n, 1, generator=g))
    faulty = (torch.rand(n, generator=g) < 1 / 6).float()
    for i in faulty.nonzero().flatten().tolist():
        for place in torch.randint(5, 50, (3,), generator=g).tolist():
            base[i, place:place + 5] += torch.tensor([2.0, -2.0, 1.5, -1.5, 1.0])
    return base + 0.3 * torch.randn(n, 60, generator=g), faulty


class Monitor(nn.Module):
    def __init__(self):
        super().__init__()
        self.filters = nn.Conv1d(1, 16, 5, padding=2)
        self.lif1 = snn.Leaky(beta=0.5)
        self.mix = nn.Linear(16, 32)
        self.lif2 = snn.Leaky(beta=0.9)
        self.head = nn.Linear(32, 1)

    def forward(self, recording):
        currents = self.filters(recording.unsqueeze(1))
        mem1, mem2, total = self.lif1.init_leaky(), self.lif2.init_leaky(), 0.0
        for t in range(currents.shape[-1]):
            spk1, mem1 = self.lif1(currents[..., t], mem1)
            spk2, mem2 = self.lif2(self.mix(spk1), mem2)
            total = total + self.head(spk2)
        logit = total.squeeze(-1) / 6
        return logit


class EarlyStopping:
    def __init__(self, patience, min_delta):
        self.patience, self.min_delta = patience, min_delta
        self.best, self.waited, self.weights = float("inf"), 0, None

    def should_stop(self, loss, model):
        if loss < self.best - self.min_delta:
            self.best, self.waited, self.weights = loss, 0, copy.deepcopy(model.state_dict())
        else:
            self.waited += 1
        return self.waited >= self.patience


torch.manual_seed(1)
x, y = vibration(600, seed=0)
val_x, val_y = vibration(300, seed=1)
test_x, test_y = vibration(500, seed=2)
model = Monitor()
criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(5.0))
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
stopper = EarlyStopping(patience=5, min_delta=0.001)

for epoch in range(11):
    for rows in torch.randperm(len(y)).split(40):
        optimizer.zero_grad()
        loss = criterion(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        val_loss = criterion(model(val_x), val_y).item()
    print(f"{epoch}: training {loss.item():.3f} validation {val_loss:.3f}")
    if stopper.should_stop(val_loss, model):
        print("early stop")
        break

model.load_state_dict(stopper.weights)
with torch.no_grad():
    found = (torch.sigmoid(model(test_x)) > 0.5).int()
print("balanced accuracy", round(balanced_accuracy_score(test_y.numpy(), found.numpy()), 4))
