# Static images, two layers of leaky neurons, cross entropy of the potential at every time step
import numpy as np
import snntorch as snn
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

# dataloader arguments
batch_size = 64
dtype = torch.float
device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
torch.manual_seed(3)

# data
digits = load_digits()
pixels = digits.data / 16.0
order = np.random.RandomState(3).permutation(len(pixels))
pixels, target = pixels[order], digits.target[order]
train_set = TensorDataset(torch.tensor(pixels[:1400], dtype=dtype), torch.tensor(target[:1400]))
test_set = TensorDataset(torch.tensor(pixels[1400:], dtype=dtype), torch.tensor(target[1400:]))
train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True, drop_last=True)
test_loader = DataLoader(test_set, batch_size=batch_size)

# network architecture
num_inputs = 64
num_hidden = 200
num_outputs = 10

# temporal dynamics
num_steps = 15
beta = 0.95


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(num_inputs, num_hidden)
        self.lif1 = snn.Leaky(beta=beta)
        self.fc2 = nn.Linear(num_hidden, num_outputs)
        self.lif2 = snn.Leaky(beta=beta)

    def forward(self, x):
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        spk2_rec = []
        mem2_rec = []
        for step in range(num_steps):
            cur1 = self.fc1(x)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = self.fc2(spk1)
            spk2, mem2 = self.lif2(cur2, mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)


net = Net().to(device)
loss = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.9, 0.999))
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.3)
num_epochs = 9

for epoch in range(num_epochs):
    for data, targets in train_loader:
        data = data.to(device)
        targets = targets.to(device)
        net.train()
        spk_rec, mem_rec = net(data)
        loss_val = torch.zeros(1, dtype=dtype, device=device)
        for step in range(num_steps):
            loss_val += loss(mem_rec[step], targets)
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
    scheduler.step()
    print(f"Epoch {epoch}, loss of last batch {loss_val.item():.2f}")

total = 0
correct = 0
with torch.no_grad():
    net.eval()
    for data, targets in test_loader:
        test_spk, _ = net(data.to(device))
        _, predicted = test_spk.sum(dim=0).max(1)
        total += targets.size(0)
        correct += (predicted == targets.to(device)).sum().item()
print(f"Correctly classified test images: {correct}/{total}, accuracy {correct / total:.4f}")
