"""Moving letters before an event camera (made here), integrate-and-fire neurons in sinabs' squeezing layers, spikes counted."""
import sinabs.activation as sina
import sinabs.layers as sl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

LETTERS = {
    "L": ("1000", "1000", "1000", "1111"),
    "T": ("1111", "0110", "0110", "0110"),
    "X": ("1001", "0110", "0110", "1001"),
    "O": ("1111", "1001", "1001", "1111"),
    "H": ("1001", "1111", "1001", "1001"),
}
SIZE, STEPS = 10, 8
batch_size = 24


def recordings(n, seed):
    """Events (n, STEPS, 2, SIZE, SIZE) and the letters' numbers."""
    g = torch.Generator().manual_seed(seed)
    masks = torch.tensor([[[int(c) for c in row] for row in rows] for rows in LETTERS.values()])
    frames = torch.zeros(n, STEPS + 1, SIZE, SIZE)
    labels = torch.randint(0, len(masks), (n,), generator=g)
    for i in range(n):
        y, x = torch.randint(2, 4, (2,), generator=g).tolist()
        for step in range(STEPS + 1):
            dy, dx = ((0, 0), (0, 1), (1, 1), (1, 0))[step % 4]
            frames[i, step, y + dy:y + dy + 4, x + dx:x + dx + 4] = masks[labels[i]].float()
    change = frames[:, 1:] - frames[:, :-1]
    events = torch.stack([(change > 0), (change < 0)], dim=2).float()
    noise = (torch.rand(events.shape, generator=g) < 0.02).float()
    return (events + noise).clamp(max=1), labels


def spiking():
    return sl.IAFSqueeze(batch_size=batch_size, spike_threshold=torch.tensor(1.0), min_v_mem=-1.0,
                         spike_fn=sina.SingleSpike, reset_fn=sina.MembraneSubtract(),
                         surrogate_grad_fn=sina.PeriodicExponential())


torch.manual_seed(30)
snn = nn.Sequential(
    nn.Conv2d(2, 12, 3, padding=1, bias=False), spiking(), sl.SumPool2d(2),
    nn.Conv2d(12, 16, 3, padding=1, bias=False), spiking(), sl.SumPool2d(2),
    nn.Dropout2d(0.1), nn.Flatten(),
    nn.Linear(16 * 4, len(LETTERS), bias=False), spiking(),
)
train_loader = DataLoader(TensorDataset(*recordings(596, seed=0)), batch_size=batch_size, shuffle=True, drop_last=True)
test_loader = DataLoader(TensorDataset(*recordings(240, seed=1)), batch_size=batch_size)
optimizer = torch.optim.Adam(snn.parameters(), lr=4e-3)
crit = nn.CrossEntropyLoss()

for epoch in range(10):
    snn.train()
    for data, label in train_loader:
        data = data.flatten(0, 1)
        optimizer.zero_grad()
        y_hat = snn(data)
        pred = y_hat.unflatten(0, (batch_size, STEPS)).sum(1)
        loss = crit(pred, label)
        loss.backward()
        optimizer.step()
        for layer in snn:
            if isinstance(layer, sl.StatefulLayer):
                layer.reset_states()
                layer.zero_grad()
    print("epoch", epoch, "loss", loss.item())

correct = 0
snn.eval()
with torch.no_grad():
    for data, label in test_loader:
        y_hat = snn(data.flatten(0, 1)).unflatten(0, (batch_size, STEPS)).sum(1)
        correct += (y_hat.argmax(1) == label).sum().item()
        for layer in snn:
            if isinstance(layer, sl.StatefulLayer):
                layer.reset_states()
print("accuracy", correct / 240)
