"""Digits with parametric LIF neurons; what is evaluated is an exponential moving average of the weights."""
import copy

import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class ModelEMA:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        for p in self.module.parameters():
            p.requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        averages = self.module.state_dict()
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                averages[name].mul_(self.decay).add_(value, alpha=1 - self.decay)
            else:
                averages[name].copy_(value)


def build():
    def plif():
        return neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.ATan(), detach_reset=True)

    net = nn.Sequential(
        layer.Conv2d(1, 16, 3, padding=1, bias=False), layer.BatchNorm2d(16), plif(), layer.AvgPool2d(2, 2),
        layer.Conv2d(16, 32, 3, padding=1, bias=False), layer.BatchNorm2d(32), plif(), layer.AvgPool2d(2, 2),
        layer.Flatten(), layer.Dropout(0.2), layer.Linear(128, 100), plif(), layer.VotingLayer(10),
    )
    functional.set_step_mode(net, "m")
    return net


def forward(net, images, steps=4):
    x = images.unsqueeze(0).repeat(steps, 1, 1, 1, 1)
    rates = net(x).mean(0)
    functional.reset_net(net)
    return rates


@torch.no_grad()
def test(net, loader):
    net.eval()
    right = sum((forward(net, x).argmax(1) == y).sum().item() for x, y in loader)
    return right / len(loader.dataset)


if __name__ == "__main__":
    torch.manual_seed(2024)
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(digits.target)
    x = (x - 0.3) * 4
    train = DataLoader(TensorDataset(x[:1300], y[:1300]), batch_size=50, shuffle=True)
    val = DataLoader(TensorDataset(x[1300:], y[1300:]), batch_size=100)
    net = build()
    ema = ModelEMA(net, decay=0.95)
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    for epoch in range(6):
        net.train()
        for images, labels in train:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(forward(net, images), nn.functional.one_hot(labels, 10).float())
            loss.backward()
            optimizer.step()
            ema.update(net)
        print(f"epoch {epoch}: loss {loss.item():.4f}")
    print("accuracy of the averaged network", test(ema.module, val))
