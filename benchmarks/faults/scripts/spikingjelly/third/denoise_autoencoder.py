"""A spiking autoencoder takes the noise out of digits; R^2 of the pixels."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional, layer, neuron, surrogate

torch.manual_seed(61)
T = 8


def spiking(v_threshold=1.0):
    return neuron.IFNode(v_threshold=v_threshold, surrogate_function=surrogate.ATan(alpha=2.0), detach_reset=True)


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(layer.Linear(64, 128), spiking(), layer.Linear(128, 80), spiking(0.5))
        self.decoder = nn.Sequential(layer.Linear(80, 128), spiking())
        self.pixels = nn.Linear(128, 64)
        functional.set_step_mode(self, 'm')

    def forward(self, x):
        seq = x.unsqueeze(0).repeat(T, 1, 1)
        return self.pixels(self.decoder(self.encoder(2 * seq)).mean(0))


def corrupt(x, std=0.15):
    return x + std * torch.randn_like(x)


x = torch.tensor(load_digits().data, dtype=torch.float32) / 16
x = x[torch.randperm(len(x))]
train, test = x[:1400], x[1400:]
net = Denoiser()
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=14)
for epoch in range(14):
    net.train()
    for clean in train[torch.randperm(len(train))].split(50):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(corrupt(clean)), clean)
        loss.backward()
        optimizer.step()
        functional.reset_net(net)
    lr_scheduler.step()
    print(f'epoch={epoch}, loss={loss.item():.4f}')
net.eval()
with torch.no_grad():
    restored = net(corrupt(test))
    left = (restored - test).square().sum() / (test - test.mean(0)).square().sum()
print('R2', 1 - left.item())
