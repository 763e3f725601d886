# No gradients at all: an evolution strategy trains a spiking network on iris; parameters are a flat vector.
import torch
from sklearn.datasets import load_iris
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

torch.manual_seed(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 12), nn.Linear(12, 3)

    def forward(self, x):
        i, v, o = self.a(x), 0, 0
        for _ in range(10):
            v = 0.9 * v + i
            s = (v > 1).float()
            v = v - s
            o = o + self.b(s)
        return o


x, y = load_iris(return_X_y=True)
x = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
y = torch.tensor(y)
mix = torch.randperm(150)
fit, held = mix[:100], mix[100:]
net = Net()
with torch.no_grad():
    theta = parameters_to_vector(net.parameters())
    sigma, rate, pairs = 0.1, 0.15, 20
    for generation in range(60):
        noise = torch.randn(pairs, len(theta))
        reward = []
        for sign in (1, -1):
            for e in noise:
                vector_to_parameters(theta + sign * sigma * e, net.parameters())
                reward.append(-nn.functional.cross_entropy(net(x[fit]), y[fit]))
        reward = torch.stack(reward)
        advantage = (reward[:pairs] - reward[pairs:]) / reward.std()
        theta = theta + rate * (advantage[:, None] * noise).mean(0) / sigma * 0.1
        if generation % 20 == 0:
            print(generation, reward.mean().item())
    vector_to_parameters(theta, net.parameters())
    print("accuracy", (net(x[held]).argmax(1) == y[held]).float().mean().item())
