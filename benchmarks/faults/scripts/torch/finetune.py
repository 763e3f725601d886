"""Train on the digits 0 to 4, freeze the convolutions, and train a new head on 5 to 9."""
import torch
from torch import nn
import lsgcli as lsg
from sklearn.datasets import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)
T = 4


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(16)
        self.lif1 = lsg.LIF(method="none", width=1.0, decay=0.5, threshold=0.5)
        self.pool = nn.AvgPool2d(2)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.lif2 = lsg.LIF(method="none", width=1.0, decay=0.5, threshold=0.5)

    def forward(self, x):
        n = x.shape[0]
        x = self.norm1(self.conv1(x))
        x = self.lif1(x.unsqueeze(0).expand(T, *x.shape))
        x = self.pool(x.flatten(0, 1))
        x = self.norm2(self.conv2(x)).unflatten(0, (T, n))
        x = self.lif2(x)
        return self.pool(x.flatten(0, 1)).flatten(1).unflatten(0, (T, n))


def fit(body, head, optimizer, images, labels, epochs):
    for epoch in range(epochs):
        for idx in torch.randperm(len(labels)).split(40):
            loss = nn.functional.cross_entropy(head(body(images[idx])).mean(0), labels[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print("loss", loss.item())


digits = load_digits()
x = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
y = torch.tensor(digits.target)
first = y < 5

body, head = Backbone(), nn.Linear(128, 5)
fit(body, head, torch.optim.Adam([*body.parameters(), *head.parameters()], lr=2e-3), x[first][:700], y[first][:700], 5)

body.requires_grad_(False)
body.eval()
new_head = nn.Linear(128, 5)
fit(body, new_head, torch.optim.Adam(new_head.parameters(), lr=1e-2), x[~first][:700], y[~first][:700] - 5, 6)
with torch.no_grad():
    guess = new_head(body(x[~first][700:])).mean(0).argmax(1) + 5
print("test accuracy", (guess == y[~first][700:]).float().mean().item())
