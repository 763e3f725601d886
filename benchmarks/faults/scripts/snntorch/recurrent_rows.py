"""Each digit is read row by row: recurrent neurons, then second-order neurons."""
import torch
import torch.nn as nn
import torch.nn.functional as F
import snntorch as snn
from snntorch import surrogate
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(7)
torch.set_num_threads(1)

images, target = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8) / 8.0 - 0.6).astype("float32")
a, b, c, d = train_test_split(images, target, test_size=360, random_state=3, stratify=target)
train = DataLoader(TensorDataset(torch.from_numpy(a), torch.from_numpy(c)), batch_size=48, shuffle=True)
test = DataLoader(TensorDataset(torch.from_numpy(b), torch.from_numpy(d)), batch_size=90)


class RowReader(nn.Module):
    def __init__(self, width=96):
        super().__init__()
        grad = surrogate.atan(alpha=2.0)
        self.inp = nn.Linear(8, width)
        self.rec = snn.RLeaky(beta=0.8, linear_features=width, threshold=0.5, spike_grad=grad)
        self.mid = nn.Linear(width, width)
        self.syn = snn.Synaptic(alpha=0.5, beta=0.8, threshold=0.5, spike_grad=grad)
        self.readout = nn.Linear(width, 10)
        self.li = snn.Leaky(beta=0.9, reset_mechanism="none")

    def forward(self, x):
        spk, mem = self.rec.init_rleaky()
        cur, mem_syn = self.syn.init_synaptic()
        mem_out = self.li.init_leaky()
        x = x.permute(1, 0, 2)  # rows first
        for row in x:
            spk, mem = self.rec(self.inp(row), spk, mem)
            spk_syn, cur, mem_syn = self.syn(self.mid(spk), cur, mem_syn)
            _, mem_out = self.li(self.readout(spk_syn), mem_out)
        return mem_out


model = RowReader()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)

for epoch in range(12):
    model.train()
    for x, y in train:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    scheduler.step()
    print(epoch, loss.item())

model.eval()
hits = 0
with torch.no_grad():
    for x, y in test:
        hits += (model(x).argmax(1) == y).sum().item()
print("test accuracy", hits / 360)
