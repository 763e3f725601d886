# Spiking CNN on the 8x8 digits, static images shown for 8 steps
import torch
import torch.nn as nn
import torch.nn.functional as F
import snntorch as snn
from snntorch import surrogate
from snntorch import functional as SF
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(42)
device = torch.device("cpu")
dtype = torch.float

digits = load_digits()
x_tr, x_te, y_tr, y_te = train_test_split(digits.images, digits.target, test_size=0.25, random_state=42, stratify=digits.target)
train_ds = TensorDataset(torch.tensor(x_tr, dtype=dtype).unsqueeze(1) / 16.0, torch.tensor(y_tr, dtype=torch.long))
test_ds = TensorDataset(torch.tensor(x_te, dtype=dtype).unsqueeze(1) / 16.0, torch.tensor(y_te, dtype=torch.long))

batch_size = 64
train_loader = DataLoader(train_ds, batch_size=batch_size, shuffle=True, drop_last=True)
test_loader = DataLoader(test_ds, batch_size=batch_size, shuffle=False)

num_steps = 8
beta = 0.9


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        spike_grad = surrogate.fast_sigmoid(slope=10)
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.lif1 = snn.Leaky(beta=beta, spike_grad=spike_grad)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1)
        self.lif2 = snn.Leaky(beta=beta, spike_grad=spike_grad)
        self.fc1 = nn.Linear(24 * 2 * 2, 10)
        self.lif3 = snn.Leaky(beta=beta, spike_grad=spike_grad)

    def forward(self, x):
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        mem3 = self.lif3.init_leaky()
        spk_rec, mem_rec = [], []
        for step in range(num_steps):
            cur1 = F.max_pool2d(self.conv1(x), 2)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = F.max_pool2d(self.conv2(spk1), 2)
            spk2, mem2 = self.lif2(cur2, mem2)
            cur3 = self.fc1(spk2.flatten(1))
            spk3, mem3 = self.lif3(cur3, mem3)
            spk_rec.append(spk3)
            mem_rec.append(mem3)
        return torch.stack(spk_rec), torch.stack(mem_rec)


net = Net().to(device)
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3, betas=(0.9, 0.999))
loss_fn = SF.ce_rate_loss()

for epoch in range(4):
    net.train()
    for data, targets in train_loader:
        data, targets = data.to(device), targets.to(device)
        spk_rec, _ = net(data)
        loss_val = loss_fn(spk_rec, targets)
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
    print(f"Epoch {epoch}, train loss {loss_val.item():.3f}")

with torch.no_grad():
    net.eval()
    acc = total = 0
    for data, targets in test_loader:
        spk_rec, _ = net(data)
        acc += SF.accuracy_rate(spk_rec, targets) * spk_rec.size(1)
        total += spk_rec.size(1)
print(f"Test set accuracy: {acc / total:.4f}")
