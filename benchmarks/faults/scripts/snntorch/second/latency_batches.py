# digits as spike times: bright pixels fire early, dark ones late
import torch, snntorch as snn
from torch import nn
from snntorch import spikegen, surrogate
from sklearn.datasets import load_digits

torch.manual_seed(11); torch.set_num_threads(1)
STEPS = 20
BATCH = 20

d = load_digits()
perm = torch.randperm(len(d.target))
pix = torch.from_numpy(d.data).float()[perm] / 16
lab = torch.from_numpy(d.target)[perm]

# [time, sample, pixel] -> [sample, time, pixel]
spikes = spikegen.latency(pix, num_steps=STEPS, tau=5, threshold=0.01, clip=True, normalize=True, linear=True)
spikes = spikes.transpose(0, 1).contiguous()
train, test = (spikes[:1500], lab[:1500]), (spikes[1500:1780], lab[1500:1780])

class TimeNet(nn.Module):
    def __init__(self, n_in=64, n_hid=100, n_out=10):
        super().__init__()
        sg = surrogate.atan(alpha=2.0)
        self.w1, self.w2 = nn.Linear(n_in, n_hid), nn.Linear(n_hid, n_out)
        self.n1 = snn.Synaptic(alpha=0.8, beta=0.9, threshold=0.5, spike_grad=sg)
        self.n2 = snn.Synaptic(alpha=0.8, beta=0.9, threshold=0.5, spike_grad=sg, reset_mechanism="none")

    def forward(self, x):                     # x: sample, time, pixel
        s1, m1 = self.n1.init_synaptic(); s2, m2 = self.n2.init_synaptic()
        trace = []
        for t in range(x.size(1)):
            z, s1, m1 = self.n1(self.w1(x[:, t]), s1, m1)
            _, s2, m2 = self.n2(self.w2(z), s2, m2)
            trace.append(m2)
        return torch.stack(trace, 1).mean(1)  # sample, class

model = TimeNet()
adam = torch.optim.Adam(model.parameters(), 2e-3)
crit = nn.CrossEntropyLoss()
for ep in range(4):
    for k in torch.randperm(1500).view(-1, BATCH):
        adam.zero_grad()
        crit(model(train[0][k]), train[1][k]).backward()
        adam.step()

model.eval()
right = 0
with torch.no_grad():
    for k in torch.arange(280).view(-1, BATCH):
        right += (model(test[0][k]).argmax(1) == test[1][k]).sum().item()
print("epochs: 4, accuracy on the test set:", right / 280)
