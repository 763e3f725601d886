"""Population code: 50 output neurons for each class, dropout of one half, one step of time."""
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset, random_split
import snntorch as snn
from snntorch import functional as SF, surrogate, utils
from sklearn.datasets import load_digits

torch.manual_seed(5)
torch.set_num_threads(1)
num_steps, pop_outputs, num_classes = 4, 500, 10

data, labels = load_digits(return_X_y=True)
dataset = TensorDataset(torch.tensor(data / 16.).float(), torch.tensor(labels).long())
train_set, test_set = random_split(dataset, [1437, 360])
loaders = {"train": DataLoader(train_set, 64, shuffle=True), "test": DataLoader(test_set, 360)}

grad = surrogate.fast_sigmoid(slope=25)
net_pop = nn.Sequential(
    nn.Linear(64, 128),
    snn.Leaky(beta=0.9, spike_grad=grad, init_hidden=True),
    nn.Dropout(0.5),
    nn.Linear(128, pop_outputs),
    snn.Leaky(beta=0.9, spike_grad=grad, init_hidden=True, output=True),
)


def run(x):
    utils.reset(net_pop)
    return torch.stack([net_pop(x)[0] for _ in range(num_steps)])


optimizer = optim.Adam(net_pop.parameters(), lr=4e-3)
criterion = SF.mse_count_loss(correct_rate=1.0, incorrect_rate=0.0, population_code=True, num_classes=10)
for epoch in range(12):
    net_pop.train()
    for x, y in loaders["train"]:
        spikes = run(x)
        loss = criterion(spikes, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    net_pop.eval()
    with torch.no_grad():
        x, y = next(iter(loaders["test"]))
        acc = SF.accuracy_rate(run(x), y, population_code=True, num_classes=10)
    print(f"epoch {epoch + 1}/12  loss {loss.item():.3f}  acc {acc:.3f}")
print(f"test accuracy {acc:.4f}")
