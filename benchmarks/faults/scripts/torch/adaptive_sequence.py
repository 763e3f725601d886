"""Adaptive neurons in a recurrent network; data as (batch, time, features); targets need memory of the first cue."""
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)


class FastSigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.heaviside(x, torch.zeros(1))

    @staticmethod
    def backward(ctx, grad):
        x, = ctx.saved_tensors
        return grad / (1 + 5 * x.abs()) ** 2


class ALIFCell(nn.Module):
    def __init__(self, n_in, n):
        super().__init__()
        self.w_in = nn.Linear(n_in, n)
        self.w_rec = nn.Linear(n, n, bias=False)
        nn.init.normal_(self.w_in.weight, 0, 1.0)
        nn.init.normal_(self.w_rec.weight, 0, 0.5 / n ** 0.5)
        self.alpha, self.rho, self.b = 0.8, 0.97, 0.5

    def forward(self, x, state):
        v, a, z = state
        a = self.rho * a + (1 - self.rho) * z
        v = self.alpha * v * (1 - z.detach()) + self.w_in(x) + self.w_rec(z)
        z = FastSigmoid.apply(v - (0.6 + self.b * a))
        return v, a, z


class Recurrent(nn.Module):
    def __init__(self, n_in, n, n_out):
        super().__init__()
        self.n = n
        self.cell = ALIFCell(n_in, n)
        self.out = nn.Linear(n, n_out)
        self.kappa = 0.8

    def forward(self, x):  # (batch, time, features)
        state = tuple(torch.zeros(x.shape[0], self.n) for _ in range(3))
        y = torch.zeros(x.shape[0], self.out.out_features)
        outputs = []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            y = self.kappa * y + (1 - self.kappa) * self.out(state[2])
            outputs.append(y)
        return torch.stack(outputs, 1)


def cues(n, generator):
    """Four cues in the first steps, then noise; the class is the cue."""
    label = torch.randint(4, (n,), generator=generator)
    x = (torch.rand(n, 16, 12, generator=generator) < 0.05).float()
    for k in range(4):
        x[label == k, 1:6, 3 * k:3 * k + 3] = (torch.rand(int((label == k).sum()), 5, 3, generator=generator) < 0.6).float()
    return x, label


generator = torch.Generator().manual_seed(2)
x_train, y_train = cues(1024, generator)
x_test, y_test = cues(400, generator)
net = Recurrent(12, 64, 4)
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(8):
    net.train()
    for batch in torch.randperm(1024).split(64):
        optimizer.zero_grad()
        prediction = net(x_train[batch])[:, -8:].mean(1)
        loss = nn.functional.cross_entropy(prediction, y_train[batch])
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.4f}")

net.eval()
with torch.no_grad():
    accuracy = (net(x_test)[:, -8:].mean(1).argmax(1) == y_test).float().mean()
print(f"test accuracy: {accuracy:.4f}")
