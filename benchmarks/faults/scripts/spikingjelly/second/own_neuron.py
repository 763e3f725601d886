# Own neurons on top of SimpleBaseNode: one that fires at most once in a presentation, one with a rectangular surrogate
import math
import torch
import torch.nn as nn
from spikingjelly.activation_based import neuron, functional
from sklearn.datasets import load_digits

torch.manual_seed(77)
T = 8


class rectangle(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, width):
        ctx.save_for_backward(x)
        ctx.width = width
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx, grad_output):
        x, = ctx.saved_tensors
        inside = (x.abs() <= ctx.width).to(x)
        return grad_output * inside, None


class Rectangle(nn.Module):
    def __init__(self, width=1.0):
        super().__init__()
        self.width = width

    def forward(self, x):
        return rectangle.apply(x, self.width)


class OnceNode(neuron.SimpleBaseNode):
    """Integrates, and fires a single spike until it is reset."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.register_memory('fired', 0.)
        self.gain = nn.Parameter(torch.tensor(1.0))

    def neuronal_charge(self, x):
        self.v = self.v + self.gain * x

    def neuronal_fire(self):
        spike = self.surrogate_function(self.v - self.v_threshold) * (1. - self.fired)
        self.fired = self.fired + spike.detach()
        return spike


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 128)
        self.once = OnceNode(v_threshold=1., surrogate_function=Rectangle(1.0))
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        v = 0.
        out = 0.
        current = self.fc1(x)
        for t in range(T):
            s = self.once(current)
            v = 0.8 * v + self.fc2(s)
            out = out + v
        return out / T


x, y = load_digits(return_X_y=True)
x = torch.as_tensor(x, dtype=torch.float32)
x = (x - x.mean()) / x.std()
y = torch.as_tensor(y)
p = torch.randperm(1797)
x, y = x[p], y[p]

net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
crit = nn.CrossEntropyLoss()
for epoch in range(10):
    net.train()
    for i in range(0, 1400, 70):
        functional.reset_net(net)
        loss = crit(net(x[i:i + 70]), y[i:i + 70])
        opt.zero_grad()
        loss.backward()
        opt.step()
    print('epoch', epoch, 'loss', loss.item())

net.eval()
hits = []
with torch.no_grad():
    for i in range(1400, 1750, 70):
        functional.reset_net(net)
        hits.append(net(x[i:i + 70]).argmax(1) == y[i:i + 70])
print('test accuracy: %.4f' % torch.cat(hits).float().mean())
