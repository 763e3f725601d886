"""Convolutions and LIF cells in norse's SequentialState."""
import norse.torch as norse
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)

p = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(300.0), v_th=torch.tensor(0.4), alpha=torch.tensor(20.0))
model = norse.SequentialState(
    torch.nn.Conv2d(1, 12, 3, padding=1),
    norse.LIFBoxCell(p, dt=0.001),
    torch.nn.MaxPool2d(2),
    torch.nn.Conv2d(12, 24, 3, padding=1),
    norse.LIFBoxCell(p, dt=0.001),
    torch.nn.MaxPool2d(2),
    torch.nn.Flatten(),
    torch.nn.Linear(96, 10, bias=False),
    norse.LIBoxCell(dt=0.001),
)

images = torch.tensor(load_digits().images / 16, dtype=torch.float32).unsqueeze(1)
labels = torch.tensor(load_digits().target)
timesteps = 8


def evaluate(x):
    state = None
    total = 0
    for _ in range(timesteps):
        v, state = model(x, state)
        total = total + v
    return total


optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(6):
    order = torch.randperm(1400)
    for start in range(0, 1400, 56):
        batch = order[start : start + 56]
        loss = F.cross_entropy(evaluate(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())

with torch.no_grad():
    score = (evaluate(images[1400:]).argmax(1) == labels[1400:]).float().mean()
print("test accuracy", score.item())
