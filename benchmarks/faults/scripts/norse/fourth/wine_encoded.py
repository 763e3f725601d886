"""Wine with norse: constant currents become spikes, two layers of LIF neurons, a leaky integrator at the end."""
import norse.torch as norse
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler

torch.manual_seed(0)
SEQ_LENGTH = 30


class Classifier(torch.nn.Module):
    def __init__(self, features, hidden, classes):
        super().__init__()
        self.encoder = norse.ConstantCurrentLIFEncoder(SEQ_LENGTH)
        params = norse.LIFParameters(alpha=torch.tensor(100.0), v_th=torch.tensor(0.3))
        self.body = norse.SequentialState(
            torch.nn.Linear(features, hidden),
            norse.LIFCell(p=params),
            torch.nn.Linear(hidden, hidden),
            norse.LIFCell(p=params),
            torch.nn.Linear(hidden, classes),
            norse.LICell(),
        )

    def forward(self, x):
        spikes = self.encoder(2.5 * x)
        state = None
        voltages = []
        for step in spikes:
            v, state = self.body(step, state)
            voltages.append(v)
        voltages = torch.stack(voltages)
        return torch.nn.functional.log_softmax(voltages.max(0).values, dim=1)


X, y = load_wine(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.33, stratify=y, random_state=4)
scaler = MinMaxScaler()
X_train = scaler.fit_transform(X_train)
X_test = scaler.transform(X_test)
X_train, X_test = (torch.as_tensor(a, dtype=torch.float32) for a in (X_train, X_test))
y_train, y_test = torch.as_tensor(y_train), torch.as_tensor(y_test)

model = Classifier(13, 64, 3)
optimizer = torch.optim.Adam(model.parameters(), lr=8e-3)
for epoch in range(30):
    for index in torch.randperm(len(X_train)).split(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.nll_loss(model(X_train[index]), y_train[index])
        loss.backward()
        optimizer.step()
    if epoch % 5 == 0:
        print(epoch, loss.item())
with torch.no_grad():
    print("accuracy", (model(X_test).argmax(1) == y_test).float().mean().item())
