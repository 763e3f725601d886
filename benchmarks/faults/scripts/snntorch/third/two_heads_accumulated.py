# Long, sparse input; two tasks with a head each; gradients of several small batches are added up.
import snntorch as snn
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

torch.manual_seed(52)
STEPS, SMALL, ACCUMULATE = 40, 20, 3

bunch = load_digits()
pixels = torch.tensor(bunch.data, dtype=torch.float32) / 16
digit = torch.tensor(bunch.target)
odd = (digit % 2).float()
perm = torch.randperm(len(digit))
train_idx, test_idx = perm[:1200], perm[1200:1600]


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(64, 120)
        self.lif = snn.Leaky(beta=0.95, threshold=0.5, reset_mechanism="zero")
        self.digit_head = nn.Linear(120, 10)
        self.odd_head = nn.Linear(120, 1)

    def forward(self, rate):
        mem = self.lif.init_leaky()
        fired = 0
        for _ in range(STEPS):
            spk, mem = self.lif(self.trunk(torch.bernoulli(0.15 * rate)), mem)
            fired = fired + spk
        fired = fired / STEPS * 4
        return self.digit_head(fired), self.odd_head(fired).squeeze(1)


def losses(model, idx):
    scores, parity = model(pixels[idx])
    loss = F.cross_entropy(scores, digit[idx])
    loss = loss + 0.5 * F.binary_cross_entropy_with_logits(parity, odd[idx])
    return loss


model = Shared()
optimizer = torch.optim.Adam(model.parameters(), lr=6e-3)
for epoch in range(5):
    optimizer.zero_grad()
    for i, idx in enumerate(train_idx[torch.randperm(1200)].split(SMALL)):
        loss = losses(model, idx) / ACCUMULATE
        loss.backward()
        if (i + 1) % ACCUMULATE == 0:
            optimizer.step()
            optimizer.zero_grad()
    print(f"epoch {epoch} loss {loss.item() * ACCUMULATE:.3f}")

model.eval()
with torch.no_grad():
    scores, parity = model(pixels[test_idx])
    print("odd or even:", ((parity > 0) == (odd[test_idx] > 0)).float().mean().item())
    print("digits:", (scores.argmax(1) == digit[test_idx]).float().mean().item())
