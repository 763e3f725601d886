"""Four patches of a digit, spiking self-attention without softmax, residual spikes."""
import torch
from torch import nn, Tensor
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit
from spikingjelly.activation_based import functional, neuron, surrogate

torch.manual_seed(64)
STEPS, DIM, HEADS = 4, 48, 4


def lif(threshold: float = 1.0) -> nn.Module:
    return neuron.LIFNode(tau=2.0, v_threshold=threshold, detach_reset=True, surrogate_function=surrogate.ATan(), step_mode="m")


class Projection(nn.Module):
    """Linear, batch normalisation and neurons over [T, B, N, C]."""

    def __init__(self, fan_in: int, fan_out: int, threshold: float = 1.0) -> None:
        super().__init__()
        self.linear = nn.Linear(fan_in, fan_out, bias=False)
        self.bn = nn.BatchNorm1d(fan_out, momentum=0.1)
        self.neurons = lif(threshold)

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        h = self.bn(h.flatten(0, 2)).view_as(h)
        return self.neurons(h)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (Projection(DIM, DIM) for _ in range(3))
        self.spike = lif(0.5)
        self.out = Projection(DIM, DIM)
        self.scale = 0.25

    def forward(self, x: Tensor) -> Tensor:
        t, b, n, c = x.shape
        q, k, v = (m(x).view(t, b, n, HEADS, c // HEADS).transpose(2, 3) for m in (self.q, self.k, self.v))
        h = (q @ k.transpose(-1, -2)) @ v * self.scale
        return self.out(self.spike(h.transpose(2, 3).reshape(t, b, n, c)))


class Former(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = Projection(16, DIM)
        self.attention = Attention()
        self.mlp = nn.Sequential(Projection(DIM, 2 * DIM), Projection(2 * DIM, DIM))
        self.head = nn.Linear(DIM, 10)

    def forward(self, images: Tensor) -> Tensor:
        patches = images.unfold(1, 4, 4).unfold(2, 4, 4).reshape(len(images), 4, 16)
        x = self.embed(patches.expand(STEPS, -1, -1, -1))
        x = x + self.attention(x)
        x = x + self.mlp(x)
        return self.head(x.mean((0, 2)))


def main() -> None:
    digits = load_digits()
    split = StratifiedShuffleSplit(n_splits=1, test_size=360, random_state=1)
    fit, held = next(split.split(digits.data, digits.target))
    images = torch.tensor(digits.images, dtype=torch.float32) / 8 - 1
    labels = torch.tensor(digits.target)
    model = Former()
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    for epoch in range(6):
        model.train()
        for rows in torch.tensor(fit)[torch.randperm(len(fit))].split(64):
            optimiser.zero_grad()
            criterion(model(images[rows]), labels[rows]).backward()
            optimiser.step()
            functional.reset_net(model)
    model.eval()
    with torch.no_grad():
        right = model(images[held]).argmax(1) == labels[held]
    print("top-1", right.float().mean().item())


main()
