"""Transfer: a spiking network learns digits 0 to 4, then its first layers stay fixed for a while, a new head learns 5 to 9, and in
the end everything is tuned. The number of spikes is kept low by a penalty."""
import sinabs
import sinabs.activation as sina
import sinabs.layers as sl
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(11)
STEPS = 10
digits = load_digits()
images = torch.tensor(digits.images.reshape(-1, 64) / 16, dtype=torch.float32)
labels = torch.tensor(digits.target)


def part(low, high, train):
    rows = torch.arange(len(labels))
    chosen = (labels >= low) & (labels <= high) & ((rows % 4 != 0) if train else (rows % 4 == 0))
    return images[chosen], labels[chosen] - low


def spiking(tau=4.0):
    return sl.LIF(tau_mem=tau, norm_input=False, spike_threshold=torch.tensor(1.0), spike_fn=sina.SingleSpike,
                  surrogate_grad_fn=sina.SingleExponential(grad_width=0.5), record_states=False)


backbone = nn.Sequential(nn.Linear(64, 80), spiking(), nn.Linear(80, 48), spiking())
head = nn.Linear(48, 5)


def forward(x):
    sinabs.reset_states(backbone)
    spikes = backbone(2 * x.unsqueeze(1).expand(-1, STEPS, -1))
    return head(spikes.mean(1) * 4), spikes


def accuracy(data):
    x, y = data
    with torch.no_grad():
        return (forward(x)[0].argmax(1) == y).float().mean().item()


def run(data, optimizer, epochs, target_rate=0.2, strength=0.1):
    x, y = data
    for epoch in range(epochs):
        for rows in torch.randperm(len(x)).split(25):
            scores, spikes = forward(x[rows])
            excess = torch.relu(spikes.mean((0, 1)) - target_rate)
            loss = nn.functional.cross_entropy(scores, y[rows]) + strength * excess.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"  epoch {epoch} loss {loss.item():.3f} spikes per step {spikes.mean().item():.3f}")


print("first task")
run(part(0, 4, True), torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=3e-3), epochs=6)
print("accuracy on 0 to 4", accuracy(part(0, 4, False)))

print("new head")
head = nn.Linear(48, 5)
run(part(5, 9, True), torch.optim.Adam(head.parameters(), lr=3e-3), epochs=3)
print("accuracy on 5 to 9", accuracy(part(5, 9, False)))

print("all layers")
run(part(5, 9, True), torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=1e-3), epochs=8)
print("accuracy on 5 to 9", accuracy(part(5, 9, False)))
