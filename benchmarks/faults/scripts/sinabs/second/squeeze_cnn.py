# Squeezed layers: batch and time share the first dimension, so that convolutions work on it.
import torch
from torch import nn
import sinabs
import sinabs.layers as sl
import sinabs.activation as sina
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset, DataLoader

torch.manual_seed(30)
BATCH, STEPS = 30, 8
digits = load_digits()
X = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
Y = torch.tensor(digits.target)
order = torch.randperm(1797)
train = DataLoader(TensorDataset(X[order[:1440]], Y[order[:1440]]), batch_size=BATCH, shuffle=True)
test = DataLoader(TensorDataset(X[order[1440:1770]], Y[order[1440:1770]]), batch_size=BATCH)


def spiking():
    return sl.IAFSqueeze(batch_size=BATCH, spike_threshold=torch.tensor(1.0), min_v_mem=-1.0,
                         spike_fn=sina.SingleSpike, surrogate_grad_fn=sina.SingleExponential(grad_width=0.6))


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.seq = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1, bias=False), spiking(), nn.AvgPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1, bias=False), spiking(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(24 * 4, 10),
        )

    def forward(self, images):                       # [B, 1, 8, 8]
        frames = images[:, None].expand(-1, STEPS, -1, -1, -1).flatten(0, 1)
        out = self.seq(2 * frames)
        return out.unflatten(0, (len(images), STEPS)).mean(1)


net = CNN()
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
for epoch in range(4):
    net.train()
    for image, label in train:
        opt.zero_grad()
        sinabs.reset_states(net)
        loss = nn.functional.cross_entropy(net(image), label)
        loss.backward()
        opt.step()

net.eval()
hits = 0
with torch.no_grad():
    for image, label in test:
        sinabs.reset_states(net)
        hits += (net(image).argmax(1) == label).sum().item()
print("test accuracy %.4f" % (hits / 330))
