"""Truncated backpropagation through time: a spiking network follows a slow average of noisy pulses, one long stream per row.
The state is carried from chunk to chunk."""
import torch
from torch import nn


def make_streams(rows, length, seed):
    """Pulses [length, rows, 2] and their difference, leakily summed, [length, rows, 1]."""
    g = torch.Generator().manual_seed(seed)
    rate = torch.zeros(length, rows, 2)
    level = torch.rand(rows, 2, generator=g) * 0.5
    for t in range(length):
        if t % 40 == 0:
            level = torch.rand(rows, 2, generator=g) * 0.5
        rate[t] = level
    pulses = (torch.rand(length, rows, 2, generator=g) < rate).float()
    value, values = torch.zeros(rows), []
    for t in range(length):
        value = 0.95 * value + 0.05 * (pulses[t, :, 0] - pulses[t, :, 1])
        values.append(value)
    target = torch.stack(values).unsqueeze(-1)
    return pulses, 5 * target


class Heaviside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return g / (1 + (2 * x) ** 2)


class Follower(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.hidden = hidden
        self.fc_in = nn.Linear(2, hidden)
        self.fc_out = nn.Linear(hidden, 1)
        self.decay = nn.Parameter(torch.rand(hidden) * 2)
        self.decay_out = nn.Parameter(torch.tensor(2.5))
        nn.init.uniform_(self.fc_in.weight, -1.2, 1.2)

    def first_state(self, rows):
        return torch.zeros(rows, self.hidden), torch.zeros(rows, 1)

    def forward(self, chunk, state):
        v, out = state
        outs = []
        for x in chunk:
            v = torch.sigmoid(self.decay) * v + self.fc_in(x)
            s = Heaviside.apply(v - 0.6)
            v = v - 0.6 * s
            leak = torch.sigmoid(self.decay_out)
            out = leak * out + (1 - leak) * self.fc_out(s)
            outs.append(out)
        return torch.stack(outs), (v, out)


def r2(model, pulses, target):
    with torch.no_grad():
        prediction, _ = model(pulses, model.first_state(pulses.shape[1]))
    residual = ((prediction - target) ** 2).mean()
    return (1 - residual / target.var()).item()


def fit(chunk_len=20, epochs=12):
    torch.manual_seed(0)
    pulses, target = make_streams(rows=32, length=400, seed=1)
    model = Follower()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=3e-3)
    for epoch in range(epochs):
        state = model.first_state(pulses.shape[1])
        losses = []
        for start in range(0, len(pulses), chunk_len):
            x, y = pulses[start:start + chunk_len], target[start:start + chunk_len]
            state = tuple(part.detach() for part in state)
            prediction, state = model(x, state)
            loss = nn.functional.mse_loss(prediction, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch} loss {sum(losses) / len(losses):.4f}")
    return model


if __name__ == "__main__":
    model = fit()
    print("R2 on new streams:", r2(model, *make_streams(rows=64, length=400, seed=2)))
