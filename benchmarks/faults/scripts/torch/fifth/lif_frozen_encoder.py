"""Few labels: an encoder learns to reproduce images without labels, then stays as it is, and a small spiking head learns from 200 labels."""
import lsgcli as lsg
import torch
from sklearn.datasets import load_digits
from torch import nn

T = 5
torch.manual_seed(23)
bunch = load_digits()
order = torch.randperm(len(bunch.target))
images = torch.tensor(bunch.data, dtype=torch.float32)[order] / 16
labels = torch.tensor(bunch.target)[order]
unlabelled, few, few_labels = images[:1200], images[:200], labels[:200]
test, test_labels = images[1200:], labels[1200:]


class Encoder(nn.Module):
    def __init__(self, code=48):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, 128), lsg.LIF(decay=0.5, method="fixed", surrogate="sigmoid"),
            nn.Linear(128, code), lsg.LIF(decay=0.5, method="fixed", surrogate="sigmoid"),
        )

    def forward(self, x):
        return self.layers(2 * x.expand(T, -1, -1))


def epochs(parameters, lr, n, inputs, loss_of):
    """Adam over mini-batches of 50 rows."""
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for epoch in range(n):
        for rows in torch.randperm(len(inputs)).split(50):
            loss = loss_of(rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss.item()


encoder, decoder = Encoder(), nn.Linear(48, 64)
pretrained = epochs(
    [*encoder.parameters(), *decoder.parameters()], 3e-3, 12, unlabelled,
    lambda rows: nn.functional.mse_loss(decoder(encoder(unlabelled[rows]).mean(0)), unlabelled[rows]))
print("reconstruction", pretrained)
torch.save({"encoder." + name: tensor for name, tensor in encoder.state_dict().items()}, "pretrained.pt")


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Sequential(nn.Linear(48, 64), lsg.LIF(decay=0.5, method="fixed", surrogate="sigmoid"), nn.Linear(64, 10))

    def forward(self, x):
        return self.head(self.encoder(x)).mean(0)


model = Classifier()
missing = model.load_state_dict(torch.load("pretrained.pt"), strict=False)
for parameter in model.encoder.parameters():
    parameter.requires_grad_(False)
fine = epochs(
    model.head.parameters(), 5e-3, 40, few,
    lambda rows: nn.functional.cross_entropy(model(few[rows]), few_labels[rows]))
print("loss on the labelled images", fine)
with torch.no_grad():
    print("accuracy", (model(test).argmax(1) == test_labels).float().mean().item())
