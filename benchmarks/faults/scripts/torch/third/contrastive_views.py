"""Self-supervised: two noisy, shifted views of a digit are alike for a spiking encoder; scored by neighbours."""
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

torch.manual_seed(2)


class Heaviside(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x > 0, 1.0, 0.0)

    @staticmethod
    def backward(ctx, grad):
        return grad / (1 + (2 * ctx.saved_tensors[0]) ** 2)


class Encoder(nn.Module):
    def __init__(self, dims=12):
        super().__init__()
        self.inner = nn.Linear(64, 128)
        self.outer = nn.Linear(128, dims)

    def forward(self, x):
        v = z = 0.0
        for _ in range(8):
            v = 0.85 * v + self.inner(x)
            s = Heaviside.apply(v - 0.7)
            v = v - 0.7 * s.detach()
            z = z + self.outer(s)
        return z


def view(images):
    rolled = torch.stack([torch.roll(i, tuple(torch.randint(-1, 2, (2,)).tolist()), (0, 1)) for i in images])
    return (rolled + 0.15 * torch.randn_like(rolled)).flatten(1)


def nt_xent(a, b, temperature):
    z = nn.functional.normalize(torch.cat([a, b]))
    similarity = z @ z.T / temperature
    similarity.fill_diagonal_(float("-inf"))
    n = len(a)
    partner = torch.arange(2 * n).roll(n)
    return nn.functional.cross_entropy(similarity, partner)


digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32) / 16
fit, held = torch.arange(1797)[:1200], torch.arange(1797)[1200:]
encoder = Encoder()
optimizer = torch.optim.Adam(encoder.parameters(), lr=2e-3)
for epoch in range(5):
    for rows in fit[torch.randperm(1200)].split(100):
        loss = nt_xent(encoder(view(images[rows])), encoder(view(images[rows])), temperature=0.3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", loss.item())
with torch.no_grad():
    codes = nn.functional.normalize(encoder(images.flatten(1))).numpy()
neighbours = KNeighborsClassifier(5).fit(codes[:1200], digits.target[:1200])
print("accuracy", neighbours.score(codes[1200:], digits.target[1200:]))
