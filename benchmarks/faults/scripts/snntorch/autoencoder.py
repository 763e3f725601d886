"""Spiking autoencoder of the digits, after the snnTorch tutorial on autoencoders."""
import torch
from torch import nn
import snntorch as snn
from snntorch import utils
from sklearn.datasets import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)
images = torch.tensor(load_digits().images / 16, dtype=torch.float32).unsqueeze(1)
train_images, test_images = images[:1500], images[1500:]
num_steps = 2


class SAE(nn.Module):
    def __init__(self, latent=128):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, stride=2), nn.BatchNorm2d(16), snn.Leaky(beta=0.5, init_hidden=True),
            nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), snn.Leaky(beta=0.5, init_hidden=True),
            nn.Flatten(), nn.Linear(128, latent), snn.Leaky(beta=0.5, init_hidden=True),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, 128), snn.Leaky(beta=0.5, init_hidden=True), nn.Unflatten(1, (32, 2, 2)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.BatchNorm2d(16), snn.Leaky(beta=0.5, init_hidden=True),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        )

    def forward(self, x):
        utils.reset(self.encoder)
        utils.reset(self.decoder)
        drawn = 0
        for _ in range(num_steps):
            drawn = drawn + self.decoder(self.encoder(x))
        return drawn / num_steps


net = SAE()
optimizer = torch.optim.AdamW(net.parameters(), lr=8e-3)
for epoch in range(20):
    net.train()
    total = 0
    for batch in train_images[torch.randperm(1500)].split(60):
        loss = ((net(batch) - batch) ** 2).sum(dim=(1, 2, 3)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(epoch, total / 25)

net.eval()
with torch.no_grad():
    error = ((net(test_images) - test_images) ** 2).mean()
print("test R2", round(1 - (error / (test_images - test_images.mean(0)).pow(2).mean()).item(), 4))
