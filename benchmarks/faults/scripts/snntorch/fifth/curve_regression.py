"""Regression with spikes: the membrane potential of one output neuron follows a curve, given a few numbers that describe it."""
import snntorch as snn
import torch
import torch.nn as nn


class Curves(torch.utils.data.Dataset):
    """Parameters (3) of a curve, and its values (steps, 1)."""

    def __init__(self, number, steps, generator):
        self.parameters = torch.rand(number, 3, generator=generator)
        t = torch.linspace(0, 1, steps)
        start, slope, bend = self.parameters.T.unsqueeze(-1)
        self.values = (start - 0.5) + 1.5 * slope * t + 1.5 * (bend - 0.5) * t ** 2

    def __getitem__(self, index):
        return self.parameters[index], self.values[index].unsqueeze(-1)

    def __len__(self):
        return len(self.parameters)


class Net(nn.Module):
    """Two hidden layers of leaky neurons; the output only integrates."""

    def __init__(self, timesteps, hidden):
        super().__init__()
        self.timesteps = timesteps
        self.hidden = hidden
        self.fc1 = nn.Linear(in_features=3, out_features=hidden)
        self.lif1 = snn.Leaky(beta=torch.rand(hidden), threshold=torch.rand(hidden) + 0.2, learn_beta=True)
        self.fc2 = nn.Linear(in_features=hidden, out_features=hidden)
        self.lif2 = snn.Leaky(beta=torch.rand(hidden), threshold=torch.rand(hidden) + 0.2, learn_beta=True)
        self.fc_out = nn.Linear(in_features=hidden, out_features=1)
        self.li_out = snn.Leaky(beta=0.7, learn_beta=True, reset_mechanism="none")

    def forward(self, x):
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.li_out.init_leaky()
        mem_3_rec = []
        for step in range(self.timesteps):
            spk1, mem1 = self.lif1(self.fc1(4 * x - 1), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk3, mem3 = self.li_out(self.fc_out(spk2), mem3)
            mem_3_rec.append(mem3)
        return torch.stack(mem_3_rec, dim=1)


torch.manual_seed(8)
g = torch.Generator().manual_seed(0)
num_steps = 20
train_loader = torch.utils.data.DataLoader(Curves(800, num_steps, g), batch_size=32, shuffle=True)
test_set = Curves(300, num_steps, g)
model = Net(timesteps=num_steps, hidden=96)
optimizer = torch.optim.Adam(params=model.parameters(), lr=2e-3)
loss_function = torch.nn.MSELoss()

model.train()
for epoch in range(14):
    hist = []
    for feature, label in train_loader:
        mem = model(feature)
        loss_val = loss_function(mem, label)
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
        hist.append(loss_val.item())
    print(f"epoch {epoch}: mse {sum(hist) / len(hist):.4f}")

model.eval()
with torch.no_grad():
    drawn = model(test_set.parameters).squeeze(-1)
    residual = ((drawn - test_set.values) ** 2).mean()
    print("R2:", (1 - residual / test_set.values.var()).item())
