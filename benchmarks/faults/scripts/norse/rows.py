"""Sequences of rows with explicit state, two layers of LIF cells and dropout between them."""
import torch
import norse.torch as norse
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class Classifier(torch.nn.Module):
    def __init__(self, hidden=100):
        super().__init__()
        parameters = norse.LIFParameters(
            tau_syn_inv=torch.as_tensor(400.0), tau_mem_inv=torch.as_tensor(250.0), v_th=torch.as_tensor(0.2), alpha=torch.as_tensor(10.0))
        self.embed = torch.nn.Linear(8, hidden)
        self.cell1 = norse.LIFCell(parameters)
        self.dropout = torch.nn.Dropout(0.2)
        self.between = torch.nn.Linear(hidden, hidden)
        self.cell2 = norse.LIFCell(parameters)
        self.readout = norse.LILinearCell(hidden, 10, p=norse.LIParameters(tau_mem_inv=torch.as_tensor(100.0)))

    def forward(self, rows):
        state1 = state2 = state3 = None
        for row in rows.transpose(0, 1):
            for _ in range(2):
                z, state1 = self.cell1(self.embed(row), state1)
                z, state2 = self.cell2(self.between(self.dropout(z)), state2)
                out, state3 = self.readout(z, state3)
        return out


torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
x = torch.tensor(digits.images / 8, dtype=torch.float32)
y = torch.tensor(digits.target)
train_index, test_index = train_test_split(range(len(y)), test_size=360, random_state=0)
x_train, y_train, x_test, y_test = x[train_index], y[train_index], x[test_index], y[test_index]

model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=8e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.5)
for epoch in range(10):
    model.train()
    for batch in torch.randperm(len(x_train)).split(64):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x_train[batch]), y_train[batch])
        loss.backward()
        optimizer.step()
    scheduler.step()
    print("loss", loss.item())

model.eval()
with torch.no_grad():
    print("test accuracy", (model(x_test).argmax(1) == y_test).float().mean().item())
