# %% Fully connected spiking network, rate-coded digits
import snntorch as snn
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from snntorch import functional as SF
from snntorch import spikegen, surrogate
from torch.utils.data import DataLoader, Dataset, random_split

# %% settings
batch_size = 64
num_steps = 20
beta = 0.9
num_epochs = 6
dtype = torch.float
torch.manual_seed(42)


# %% data
class Digits(Dataset):
    def __init__(self):
        bunch = load_digits()
        self.images = bunch.images
        self.labels = bunch.target

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        image = torch.tensor(self.images[idx], dtype=dtype) / 16.
        return image.flatten(), int(self.labels[idx])


data = Digits()
train_set, test_set = random_split(data, [1400, len(data) - 1400])
train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True, drop_last=True)
test_loader = DataLoader(test_set, batch_size=batch_size, shuffle=True, drop_last=True)


# %% network
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        spike_grad = surrogate.fast_sigmoid(slope=25)
        self.fc1 = nn.Linear(64, 100)
        self.lif1 = snn.Leaky(beta=beta, spike_grad=spike_grad)
        self.fc2 = nn.Linear(100, 10)
        self.lif2 = snn.Leaky(beta=beta, spike_grad=spike_grad)

    def forward(self, x):
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        spk2_rec, mem2_rec = [], []
        for step in range(x.size(0)):
            cur1 = self.fc1(x[step])
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = self.fc2(spk1)
            spk2, mem2 = self.lif2(cur2, mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec), torch.stack(mem2_rec)


net = Net()
loss_fn = SF.ce_rate_loss()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, betas=(0.9, 0.999))

# %% training
for epoch in range(num_epochs):
    net.train()
    for i, (images, targets) in enumerate(train_loader):
        spike_data = spikegen.rate(images, num_steps=num_steps)
        spk_rec, mem_rec = net(spike_data)
        loss_val = loss_fn(spk_rec, targets)
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
    acc = SF.accuracy_rate(spk_rec, targets)
    print(f"Epoch {epoch}, loss {loss_val.item():.3f}, accuracy of last batch {acc * 100:.1f}%")

# %% test
total = 0
acc = 0
with torch.no_grad():
    net.eval()
    for images, targets in test_loader:
        spk_rec, _ = net(spikegen.rate(images, num_steps=num_steps))
        acc += SF.accuracy_rate(spk_rec, targets) * spk_rec.size(1)
        total += spk_rec.size(1)
print(f"The total accuracy on the test set is: {acc / total:.4f}")
