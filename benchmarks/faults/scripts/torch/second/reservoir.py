"""A fixed spiking reservoir; only its linear readout is trained (frozen weights on purpose)."""
import torch
from sklearn.datasets import load_digits

torch.manual_seed(2)
N, REPEATS = 400, 3

digits = load_digits()
rows = torch.tensor(digits.images, dtype=torch.float32) / 16
target = torch.tensor(digits.target)

w_in = torch.randn(8, N) * 0.9
w = torch.randn(N, N) * (torch.rand(N, N) < 0.05)
w *= 0.7 / torch.linalg.eigvals(w).abs().max()
tau = torch.rand(N) * 0.5 + 0.45


@torch.no_grad()
def liquid(images):
    v, s, trace = (torch.zeros(len(images), N) for _ in range(3))
    states = []
    for r in range(8):
        for _ in range(REPEATS):
            v = tau * v * (1 - s) + images[:, r] @ w_in + s @ w
            s = (v > 1).float()
            trace = 0.9 * trace + s
        states.append(trace[:, : N // 4])
    states.append(trace)
    return torch.cat(states, 1)


features = liquid(rows)
features = (features - features.mean(0)) / (features.std(0) + 1)
order = torch.randperm(1797)
fit, held = order[:1400], order[1400:]

readout = torch.nn.Linear(features.shape[1], 10)
optimizer = torch.optim.Adam(readout.parameters(), lr=1e-3, weight_decay=1e-3)
for epoch in range(12):
    for pick in fit[torch.randperm(1400)].split(50):
        loss = torch.nn.functional.cross_entropy(readout(features[pick]), target[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
with torch.no_grad():
    print("accuracy", (readout(features[held]).argmax(1) == target[held]).float().mean().item())
