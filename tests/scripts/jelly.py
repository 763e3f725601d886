"""spikingjelly: a network of modules stepped in a loop, with its state reset after each batch."""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

T, CLASSES, BATCH = 4, 4, 32
torch.manual_seed(0)
centres = torch.randn(CLASSES, 20)
net = nn.Sequential(
    layer.Linear(20, 64),
    neuron.LIFNode(tau=2.0, v_threshold=0.5, surrogate_function=surrogate.ATan()),
    layer.Linear(64, 64),
    neuron.IFNode(surrogate_function=surrogate.ATan()),
    layer.Linear(64, CLASSES),
)
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)


def batch():
    y = torch.randint(CLASSES, (BATCH,))
    return centres[y] + 0.3 * torch.randn(BATCH, 20), y


for _ in range(60):
    x, y = batch()
    optimizer.zero_grad()
    outputs = sum(net(x) for _ in range(T)) / T
    loss = nn.functional.mse_loss(outputs, nn.functional.one_hot(y, CLASSES).float())
    loss.backward()
    optimizer.step()
    functional.reset_net(net)
print(repr(loss.item()), torch.rand(1).item())
