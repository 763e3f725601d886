"""Hand-written convolutional spiking network of blocks; batch first, [batch, step, channel, row, column]."""
from typing import List

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn


class FastSigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.slope = slope
        return u.gt(0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (u,) = ctx.saved_tensors
        return grad / (ctx.slope * u.abs() + 1.0).square(), None


class SpikingBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm = nn.GroupNorm(4, c_out)
        self.leak = 0.75
        self.slope = 4.0

    def forward(self, x: Tensor) -> Tensor:
        b, t = x.shape[:2]
        drive = self.norm(self.conv(x.flatten(0, 1))).unflatten(0, (b, t))
        u = torch.zeros_like(drive[:, 0])
        spikes: List[Tensor] = []
        for k in range(t):
            u = self.leak * u + drive[:, k]
            s = FastSigmoid.apply(u - 1.0, self.slope)
            u = torch.where(s.bool(), torch.zeros_like(u), u)
            spikes.append(s)
        return torch.stack(spikes, 1)


class SpikingNet(nn.Module):
    def __init__(self, steps: int = 4) -> None:
        super().__init__()
        self.steps = steps
        widths = [1, 12, 24, 4]
        self.blocks = nn.ModuleList(SpikingBlock(a, b, 1 if b == 12 else 2) for a, b in zip(widths, widths[1:]))
        self.head = nn.Linear(4 * 4, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = image.unsqueeze(1).repeat(1, self.steps, 1, 1, 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x.float().mean(1).flatten(1))


def batches(x: Tensor, y: Tensor, size: int):
    for rows in torch.randperm(len(y)).split(size):
        yield x[rows], y[rows]


if __name__ == "__main__":
    torch.manual_seed(55)
    digits = load_digits()
    x = torch.tensor(digits.images).float().unsqueeze(1)
    x = (x - x.mean()) / x.std()
    y = torch.tensor(digits.target)
    shuffle = torch.randperm(len(y))
    x, y = x[shuffle], y[shuffle]
    net = SpikingNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for epoch in range(6):
        net.train()
        total = 0.0
        for image, label in batches(x[:1440], y[:1440], 60):
            loss = nn.functional.cross_entropy(net(image), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: {total / 24:.4f}")
    net.eval()
    with torch.inference_mode():
        print("accuracy:", (net(x[1440:]).argmax(1) == y[1440:]).float().mean().item())
