"""A regression with spikes inside and potentials outside: y is a quadratic form of four inputs."""
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from spikingjelly.activation_based import functional, layer, neuron, surrogate


def dataset(n, g):
    x = torch.rand(n, 4, generator=g) * 2 - 1
    y = x[:, 0] * x[:, 1] - x[:, 2] ** 2 + 0.5 * x[:, 3]
    return x, y[:, None]


def build(width: int, steps: int):
    lif = partial(neuron.LIFNode, tau=4.0, v_reset=None, surrogate_function=surrogate.Sigmoid(alpha=4.0), step_mode="m")
    net = nn.Sequential(
        layer.Linear(4, width, step_mode="m"),
        lif(v_threshold=0.3),
        layer.Linear(width, width, step_mode="m"),
        lif(v_threshold=0.3),
        layer.Linear(width, 1, step_mode="m"),
        neuron.NonSpikingLIFNode(tau=3.0),
    )

    def predict(x):
        out = net(x.unsqueeze(0).expand(steps, -1, -1))
        functional.reset_net(net)
        return sum(out[-4:]) / 4

    return net, predict


if __name__ == "__main__":
    g = torch.manual_seed(9)
    x_train, y_train = dataset(1024, g)
    x_test, y_test = dataset(256, g)
    net, predict = build(64, 12)
    optim = torch.optim.AdamW(net.parameters(), lr=1e-2)
    sched = torch.optim.lr_scheduler.OneCycleLR(optim, max_lr=1e-2, total_steps=20 * 16)
    for epoch in range(20):
        for rows in torch.randperm(1024, generator=g).split(64):
            loss = F.mse_loss(predict(x_train[rows]), y_train[rows])
            optim.zero_grad()
            loss.backward()
            optim.step()
            sched.step()
        if epoch % 5 == 4:
            print(f"{epoch + 1:3d} {loss.item():.4f}")
    with torch.no_grad():
        error = F.mse_loss(predict(x_test), y_test)
    print(f"R^2 on the test data: {1 - error / y_test.var(unbiased=False):.4f}")
