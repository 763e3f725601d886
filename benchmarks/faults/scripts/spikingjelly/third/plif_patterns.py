"""Spike patterns in time, all with the same number of spikes per input: only time tells them apart."""
import torch
import torch.nn as nn
from spikingjelly.activation_based import functional, layer, neuron, surrogate

torch.manual_seed(101)
T, INPUTS, CLASSES = 24, 20, 4
TIMES = torch.stack([torch.randperm(INPUTS) for _ in range(CLASSES)])


def patterns(n):
    y = torch.randint(0, CLASSES, (n,))
    t = TIMES[y] + torch.randint(0, T - INPUTS + 1, (n, 1))
    x = torch.zeros(T, n, INPUTS)
    x.scatter_(0, t.unsqueeze(0), 1.)
    return x * (torch.rand(n, INPUTS) < 0.9), y


class PLIFNet(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        plif = dict(init_tau=4.0, decay_input=False, v_threshold=0.5, detach_reset=True, surrogate_function=surrogate.Sigmoid(alpha=4.))
        self.fc = nn.Sequential(
            layer.Linear(INPUTS, hidden),
            neuron.ParametricLIFNode(**plif),
            layer.Linear(hidden, hidden),
            neuron.ParametricLIFNode(**plif),
        )
        self.head = layer.Linear(hidden, CLASSES)
        functional.set_step_mode(self, step_mode='m')

    def forward(self, x_seq):
        return self.head(self.fc(x_seq).mean(0))


net = PLIFNet()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for it in range(200):
    x, y = patterns(40)
    y_hat = net(x)
    loss = nn.functional.cross_entropy(y_hat, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    functional.reset_net(net)
    if it % 40 == 0:
        print(it, 'loss', loss.item(), 'acc', (y_hat.argmax(1) == y).float().mean().item())
with torch.no_grad():
    functional.reset_net(net)
    x, y = patterns(400)
    print('accuracy', (net(x).argmax(1) == y).float().mean().item())
