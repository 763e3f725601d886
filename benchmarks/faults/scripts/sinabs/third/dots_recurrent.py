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
