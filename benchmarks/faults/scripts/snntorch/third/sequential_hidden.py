"""nn.Sequential with hidden states inside the neurons, rate loss on output spikes."""
import snntorch as snn
import torch
from sklearn.datasets import load_digits
from snntorch import functional as SF
from snntorch import surrogate, utils
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(21)
beta, num_steps, width = 0.9, 10, 100
grad = surrogate.fast_sigmoid(slope=10)

digits = load_digits()
dataset = TensorDataset(torch.tensor(digits.data / 16.0, dtype=torch.float32), torch.tensor(digits.target))
train_set, test_set = random_split(dataset, [1400, 397])
train_loader = DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True)
test_loader = DataLoader(test_set, batch_size=397)

lif_a = snn.Leaky(beta=beta, spike_grad=grad, init_hidden=True)
lif_b = snn.Leaky(beta=beta, spike_grad=grad, init_hidden=True)
net = nn.Sequential(
    nn.Linear(64, width),
    lif_a,
    nn.Linear(width, width),
    lif_b,
    nn.Linear(width, 10),
    snn.Leaky(beta=beta, spike_grad=grad, init_hidden=True, output=True),
)
params = list(net.parameters())
print("trainable:", sum(p.numel() for p in params))
optimizer = torch.optim.Adam(params, lr=2e-3, betas=(0.9, 0.999))
loss_fn = SF.ce_rate_loss()


def forward_pass(net, data):
    utils.reset(net)
    spk_rec = []
    for step in range(num_steps):
        spk_out, mem_out = net(data)
        spk_rec.append(spk_out)
    return torch.stack(spk_rec)


for epoch in range(6):
    epoch_loss = 0
    for data, targets in train_loader:
        loss_val = loss_fn(forward_pass(net, data), targets)
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
        epoch_loss += loss_val.item()
    print(f"Epoch {epoch}: train loss {epoch_loss / len(train_loader):.2f}")

with torch.no_grad():
    data, targets = next(iter(test_loader))
    print("Test accuracy:", SF.accuracy_rate(forward_pass(net, data), targets))
