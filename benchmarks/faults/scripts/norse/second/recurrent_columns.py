import math
import numpy as np
import torch
from torch import nn
from norse.torch import LIFParameters, LIFRecurrentCell
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

SEED = 6
np.random.seed(SEED); torch.manual_seed(SEED)

bunch = load_digits()
scaled = StandardScaler().fit_transform(bunch.data).reshape(-1, 8, 8)
seq = torch.tensor(scaled, dtype=torch.float32).permute(2, 0, 1)   # column, sample, row
cls = torch.tensor(bunch.target)
take = np.random.permutation(len(cls))
fit, held = take[:1400], take[1400:]

H, REPEAT, DT = 80, 3, 0.002


class Columns(nn.Module):
    def __init__(self):
        super().__init__()
        p = LIFParameters(tau_syn_inv=torch.tensor(300.0), tau_mem_inv=torch.tensor(100.0), v_th=torch.tensor(0.3), alpha=torch.tensor(40.0))
        self.cell = LIFRecurrentCell(8, H, p=p, dt=DT)
        self.cell.input_weights.data.normal_(0, 1 / math.sqrt(8))
        self.cell.recurrent_weights.data.mul_(0.5)
        self.drop = nn.Dropout(0.2)
        self.classify = nn.Linear(8 * H, 10)

    def forward(self, x):
        state, seen = None, []
        for column in x:
            z_sum = 0
            for _ in range(REPEAT):
                z, state = self.cell(column, state)
                z_sum = z_sum + z
            seen.append(z_sum)
        return self.classify(self.drop(torch.cat(seen, 1)))


net = Columns()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
ce = nn.CrossEntropyLoss()
for ep in range(8):
    net.train()
    np.random.shuffle(fit)
    for b in np.array_split(fit, 28):
        opt.zero_grad()
        ce(net(seq[:, b]), cls[b]).backward()
        opt.step()
net.eval()
with torch.no_grad():
    out = net(seq[:, held])
print(f"{(out.argmax(1) == cls[held]).float().mean():.4f} of the held out digits are right")
