"""Regression with the membrane potential of a readout that does not fire, after the snnTorch tutorials on regression."""
import torch
import torch.nn as nn
import snntorch as snn
from snntorch import surrogate

torch.manual_seed(0)
torch.set_num_threads(1)

# each sample: three numbers, the target is a curve over time
N, T = 512, 20
params = torch.rand(N, 3)
time = torch.linspace(0, 1, T)
curves = params[:, :1] * 2 * time + (params[:, 1:2] - 0.5) * (1 - time) + 0.2 * params[:, 2:3]
curves = curves.unsqueeze(-1)  # (N, T, 1)
train_x, train_y, test_x, test_y = params[:400], curves[:400], params[400:], curves[400:]


class Net(nn.Module):
    def __init__(self, timesteps, hidden):
        super().__init__()
        self.timesteps = timesteps
        grad = surrogate.atan()
        self.fc_in = nn.Linear(3, hidden)
        self.lif_in = snn.Leaky(beta=torch.rand(hidden), learn_beta=True, threshold=1.0, spike_grad=grad)
        self.fc_hidden = nn.Linear(hidden, hidden)
        self.lif_hidden = snn.Leaky(beta=torch.rand(hidden), learn_beta=True, threshold=1.0, spike_grad=grad)
        self.fc_out = nn.Linear(hidden, 1)
        self.li_out = snn.Leaky(beta=0.8, learn_beta=True, reset_mechanism="none")

    def forward(self, x):
        mem1, mem2, mem3 = self.lif_in.init_leaky(), self.lif_hidden.init_leaky(), self.li_out.init_leaky()
        out = []
        for _ in range(self.timesteps):
            s1, mem1 = self.lif_in(self.fc_in(x), mem1)
            s2, mem2 = self.lif_hidden(self.fc_hidden(s1), mem2)
            _, mem3 = self.li_out(self.fc_out(s2), mem3)
            out.append(mem3)
        return torch.stack(out, dim=1)


net = Net(T, 128)
mse = nn.MSELoss()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(24):
    for idx in torch.randperm(len(train_x)).split(50):
        loss = mse(net(train_x[idx]), train_y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1}: {loss.item():.4f}")

with torch.no_grad():
    residual = (net(test_x) - test_y).pow(2).mean()
r2 = 1 - residual / test_y.var()
print(f"test R2 {r2.item():.4f}")
