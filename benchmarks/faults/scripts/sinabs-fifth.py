# %% sinabs/fifth/iaf_squeeze_letters.py
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
# %% sinabs/fifth/leak_coincidence.py
"""Direction of a sound: spikes at two ears, of which one comes some steps later. LIF layers with synapses, leaky readout."""
import sinabs.activation as sina
import sinabs.layers as sl
import torch
from torch import nn

FIBRES, STEPS, CLASSES = 12, 50, 3


def sounds(n, seed):
    """Spikes (n, STEPS, 2 * FIBRES); class k: the right ear is 6 - 6 k steps late."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, CLASSES, (n,), generator=g)
    left = torch.zeros(n, STEPS, FIBRES)
    clicks = torch.randint(8, 36, (n, 4), generator=g)
    for i in range(n):
        left[i, clicks[i]] = 1.0
    delay = 6 - 6 * label
    right = torch.stack([torch.roll(left[i], int(delay[i]), dims=0) for i in range(n)])
    both = torch.cat([left, right], dim=2)
    keep = (torch.rand(both.shape, generator=g) < 0.8).float()
    noise = (torch.rand(both.shape, generator=g) < 0.01).float()
    return (both * keep + noise).clamp(max=1), label


class Localiser(nn.Module):
    def __init__(self, hidden=64, tau_mem=6.0, tau_syn=4.0):
        super().__init__()
        options = {"norm_input": False, "spike_fn": sina.SingleSpike, "surrogate_grad_fn": sina.SingleExponential(grad_width=0.6)}
        self.net = nn.Sequential(
            nn.Linear(2 * FIBRES, hidden), sl.LIF(tau_mem=tau_mem, tau_syn=tau_syn, **options),
            nn.Linear(hidden, hidden), sl.LIF(tau_mem=tau_mem, **options),
            nn.Linear(hidden, CLASSES), sl.ExpLeak(tau_mem=20.0, norm_input=True),
        )
        with torch.no_grad():
            self.net[0].weight.mul_(4)  # clicks are rare
            self.net[2].weight.mul_(3)

    def forward(self, spikes):
        for layer in self.net:
            if isinstance(layer, sl.StatefulLayer):
                layer.reset_states()
        return self.net(spikes).mean(1)


if __name__ == "__main__":
    torch.manual_seed(5)
    x, y = sounds(800, seed=1)
    test_x, test_y = sounds(300, seed=2)
    model = Localiser()
    optimizer = torch.optim.RAdam(model.parameters(), lr=4e-3)
    for epoch in range(10):
        total = 0.0
        for rows in torch.randperm(len(y)).split(40):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch} loss {total / 20:.3f}")
    with torch.no_grad():
        print("test", (model(test_x).argmax(1) == test_y).float().mean().item())
