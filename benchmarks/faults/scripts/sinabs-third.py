# %% sinabs/third/dots_recurrent.py
"""Dots that move left or right or stand, as events; sinabs neurons, one layer recurrent."""
import sinabs.activation as sina
import sinabs.layers as sl
import torch
from torch import nn

torch.manual_seed(15)
PLACES, STEPS = 20, 16


def dots(n):
    kind = torch.randint(0, 3, (n,))
    place = torch.randint(0, PLACES, (n, 1)) + (kind[:, None] - 1) * torch.arange(STEPS)
    x = nn.functional.one_hot(place % PLACES, PLACES).float()
    noise = (torch.rand(n, STEPS, PLACES) < 0.02).float()
    return (x + noise).clamp(max=1), kind


surrogate = dict(spike_fn=sina.SingleSpike, surrogate_grad_fn=sina.SingleExponential(grad_width=0.5))
hidden = 64
model = nn.Sequential(
    nn.Linear(PLACES, hidden),
    sl.LIF(tau_mem=6.0, norm_input=False, spike_threshold=torch.tensor(0.6), **surrogate),
    nn.Linear(hidden, hidden),
    sl.LIFRecurrent(tau_mem=8.0, norm_input=False, rec_connect=nn.Linear(hidden, hidden, bias=False), **surrogate),
    nn.Linear(hidden, 3),
    sl.ExpLeak(tau_mem=10.0, norm_input=False),
)
stateful = [layer for layer in model.modules() if isinstance(layer, sl.StatefulLayer)]


def clear_states():
    for layer in stateful:
        layer.reset_states()


optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
for step in range(120):
    clear_states()
    x, kind = dots(40)
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(2 * x)[:, -1], kind)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 20 == 0:
        print(step, loss.item())
with torch.no_grad():
    clear_states()
    x, kind = dots(300)
    print("accuracy", (model(2 * x)[:, -1].argmax(1) == kind).float().mean().item())
# %% sinabs/third/iaf_wine.py
# Integrate-and-fire neurons of sinabs that fire several times in a step; wine; an own training class.
import sinabs
import sinabs.activation as sina
import sinabs.layers as sl
import torch
import torch.nn as nn
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split


class Learner:
    def __init__(self, model, lr):
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def scores(self, x, steps=10):
        sinabs.reset_states(self.model)
        return self.model(x[:, None].expand(-1, steps, -1)).mean(1)

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.scores(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def iaf():
    return sl.IAF(spike_threshold=torch.tensor(1.0), min_v_mem=-1.0, spike_fn=sina.MultiSpike, surrogate_grad_fn=sina.PeriodicExponential())


torch.manual_seed(36)
x, y = load_wine(return_X_y=True)
x_train, x_test, y_train, y_test = (torch.tensor(v) for v in train_test_split(x, y, test_size=60, stratify=y, random_state=36))
mean, std = x_train.mean(0), x_train.std(0)
x_train, x_test = (((x_train - mean) / std).float(), ((x_test - mean) / std).float())
learner = Learner(nn.Sequential(nn.Linear(13, 32), iaf(), nn.Linear(32, 24), iaf(), nn.Linear(24, 3)), lr=5e-3)
for epoch in range(30):
    for rows in torch.randperm(len(y_train)).split(16):
        loss = learner.step(x_train[rows], y_train[rows])
    if epoch % 10 == 0:
        print(epoch, loss)
with torch.no_grad():
    print("accuracy", (learner.scores(x_test).argmax(1) == y_test).float().mean().item())
