"""Digits are read column by column: each column is a timestep."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Sequential(
            layer.Linear(8, 128),
            neuron.LIFNode(tau=3.0, decay_input=False, surrogate_function=surrogate.ATan()),
            layer.Linear(128, 128),
            neuron.LIFNode(tau=3.0, decay_input=False, surrogate_function=surrogate.ATan()),
            layer.SynapseFilter(tau=4.0, learnable=True),
            layer.Linear(128, 10),
        )

    def forward(self, x_seq):
        return self.fc(x_seq)


torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
x = torch.from_numpy(digits.images).float() / 8
x = x.permute(2, 0, 1)  # [N, H, W] -> [T = W, N, H]
y = torch.from_numpy(digits.target)
perm = torch.randperm(y.numel(), generator=torch.Generator().manual_seed(4))
train_idx, test_idx = perm[:1400], perm[1400:]

net = Net()
functional.set_step_mode(net, "m")
opt = torch.optim.Adam(net.parameters(), 3e-3)
for epoch in range(12):
    net.train()
    for idx in train_idx[torch.randperm(1400)].split(64):
        out = net(x[:, idx])[-1]
        loss = F.cross_entropy(out, y[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
        functional.reset_net(net)
    print(epoch, round(loss.item(), 4))

net.eval()
with torch.no_grad():
    acc = (net(x[:, test_idx])[-1].argmax(1) == y[test_idx]).float().mean()
    functional.reset_net(net)
print(f"test accuracy = {acc:.4f}")
