"""No modules, no optimiser: a dictionary of tensors, LIF neurons as a function and SGD by hand."""
import torch
from sklearn.datasets import load_digits

torch.manual_seed(4)


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u > 0).float()

    @staticmethod
    def backward(ctx, g):
        (u,) = ctx.saved_tensors
        return g / (1 + 5 * u.abs()) ** 2


fire = Step.apply
x, y = load_digits(return_X_y=True)
x = torch.tensor(x / 16, dtype=torch.float32)
y = torch.tensor(y)
k = torch.randperm(1797)
x_train, y_train, x_test, y_test = x[k[:1400]], y[k[:1400]], x[k[1400:]], y[k[1400:]]

w = {
    "in": torch.randn(64, 100) / 8 * 2,
    "b": torch.zeros(100),
    "out": torch.randn(100, 10) / 10,
}
for tensor in w.values():
    tensor.requires_grad_(True)


def network(batch, steps=10, decay=0.85, threshold=1.0):
    u = torch.zeros(len(batch), 100)
    o = torch.zeros(len(batch), 10)
    current = batch @ w["in"] + w["b"]
    for _ in range(steps):
        u = decay * u + current
        s = fire(u - threshold)
        u = u - threshold * s.detach()
        o = 0.95 * o + s @ w["out"]
    return o / steps


lr = 0.3
for epoch in range(8):
    for i in range(0, 1400, 35):
        loss = torch.nn.functional.cross_entropy(network(x_train[i : i + 35]), y_train[i : i + 35])
        loss.backward()
        with torch.no_grad():
            for tensor in w.values():
                tensor -= lr * tensor.grad
                tensor.grad.zero_()
    print("epoch %d, loss %.4f" % (epoch, loss))

with torch.no_grad():
    print("accuracy %.4f" % (network(x_test).argmax(1) == y_test).float().mean())
