# Few samples of digits 5 to 9 in training: classes are weighted; the score is the balanced accuracy.
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score
from spikingjelly.activation_based import functional, neuron, surrogate

torch.manual_seed(55)
features, label = load_digits(return_X_y=True)
features = torch.tensor(features, dtype=torch.float32) / 16
label = torch.tensor(label)
shuffled = torch.randperm(len(label))
test = shuffled[1300:]
rare = label >= 5
train = torch.cat([shuffled[:1300][~rare[shuffled[:1300]]], shuffled[:1300][rare[shuffled[:1300]]][:120]])
count = torch.bincount(label[train], minlength=10).float()
class_weight = count.sum() / (10 * count)

net = nn.Sequential(
    nn.Linear(64, 100),
    neuron.LIFNode(tau=2., decay_input=False, surrogate_function=surrogate.ATan()),
    nn.Linear(100, 100),
    neuron.LIFNode(tau=2., decay_input=False, surrogate_function=surrogate.ATan()),
    nn.Linear(100, 10),
)
criterion = nn.CrossEntropyLoss(weight=class_weight)
optimizer = torch.optim.Adam(net.parameters(), 2e-3)


def predict(x, T=6):
    functional.reset_net(net)
    return torch.stack([net(x) for _ in range(T)]).mean(0)


for epoch in range(12):
    for rows in train[torch.randperm(len(train))].split(40):
        loss = criterion(predict(features[rows]), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print('epoch %d loss %.4f' % (epoch, loss.item()))
with torch.no_grad():
    guess = predict(features[test]).argmax(1)
print('balanced accuracy %.4f' % balanced_accuracy_score(label[test], guess))
