"""A network of spikingjelly's tutorials: convolutions with batch normalisation and IF neurons, multi-step, mean square error of firing rates."""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from benchmarks.watched import Record

T, CHANNELS = 4, 64


def block(inputs):
    return [
        layer.Conv2d(inputs, CHANNELS, kernel_size=3, padding=1, bias=False),
        layer.BatchNorm2d(CHANNELS),
        neuron.IFNode(surrogate_function=surrogate.ATan()),
        layer.MaxPool2d(2, 2),
    ]


def fully_connected(inputs, outputs):
    return [layer.Linear(inputs, outputs, bias=False), neuron.IFNode(surrogate_function=surrogate.ATan())]


torch.manual_seed(0)
parts = [*block(1), *block(CHANNELS), layer.Flatten(), *fully_connected(CHANNELS * 4, 256), *fully_connected(256, 10)]
record, net = Record(), nn.Sequential(*parts)
functional.set_step_mode(net, "m")
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for x, y in record.batches(64):
    optimizer.zero_grad()
    rates = net(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)
    loss = nn.functional.mse_loss(rates, nn.functional.one_hot(y, 10).float())
    loss.backward()
    optimizer.step()
    functional.reset_net(net)
    record.step(loss)
record.write()
