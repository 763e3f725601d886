"""Bare tensors as weights, times of spikes as input, after the SpyTorch tutorials."""
import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(0)
np.random.seed(0)
torch.set_num_threads(1)
dtype = torch.float

nb_inputs, nb_hidden, nb_outputs = 64, 100, 10
time_step = 1e-3
nb_steps = 25
batch_size = 128

tau_mem = 10e-3
tau_syn = 5e-3
alpha = float(np.exp(-time_step / tau_syn))
beta = float(np.exp(-time_step / tau_mem))

X, y = load_digits(return_X_y=True)
X = X / 16
perm = np.random.permutation(len(y))
X, y = X[perm], y[perm]


def current2firing_time(x, tau=12, thr=0.15, tmax=nb_steps):
    """Latency of an LIF neuron for a constant current, in steps; tmax: none."""
    out = np.full(x.shape, tmax)
    on = x > thr
    out[on] = np.minimum(tau * np.log(x[on] / (x[on] - thr)), tmax - 1).astype(int)
    return out


def batches(X, y, shuffle):
    times = current2firing_time(X)
    index = np.random.permutation(len(y)) if shuffle else np.arange(len(y))
    for k in range(0, len(y), batch_size):
        chosen = index[k:k + batch_size]
        data = torch.zeros(len(chosen), nb_steps + 1, nb_inputs)
        data.scatter_(1, torch.tensor(times[chosen]).unsqueeze(1), 1.0)
        yield data[:, :nb_steps], torch.tensor(y[chosen])


weight_scale = 7 * (1.0 - beta)
w1 = torch.empty((nb_inputs, nb_hidden), dtype=dtype, requires_grad=True)
nn.init.normal_(w1, mean=0.0, std=2 * weight_scale / np.sqrt(nb_inputs))
w2 = torch.empty((nb_hidden, nb_outputs), dtype=dtype, requires_grad=True)
nn.init.normal_(w2, mean=0.0, std=weight_scale / np.sqrt(nb_hidden))


class SurrGradSpike(torch.autograd.Function):
    scale = 10.0

    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        out = torch.zeros_like(input)
        out[input > 0] = 1.0
        return out

    @staticmethod
    def backward(ctx, grad_output):
        input, = ctx.saved_tensors
        grad_input = grad_output.clone()
        return grad_input / (SurrGradSpike.scale * torch.abs(input) + 1.0) ** 2


spike_fn = SurrGradSpike.apply


def run_snn(inputs):
    n = inputs.shape[0]
    h1 = torch.einsum("abc,cd->abd", (inputs, w1))
    syn = torch.zeros((n, nb_hidden))
    mem = torch.zeros((n, nb_hidden))
    spk_rec = []
    for t in range(nb_steps):
        out = spike_fn(mem - 1.0)
        rst = out.detach()
        spk_rec.append(out)
        new_syn = alpha * syn + h1[:, t]
        mem = (beta * mem + syn) * (1.0 - rst)
        syn = new_syn
    spk_rec = torch.stack(spk_rec, dim=1)

    h2 = torch.einsum("abc,cd->abd", (spk_rec, w2))
    flt = torch.zeros((n, nb_outputs))
    out = torch.zeros((n, nb_outputs))
    out_rec = []
    for t in range(nb_steps):
        new_flt = alpha * flt + h2[:, t]
        out = beta * out + flt
        flt = new_flt
        out_rec.append(out)
    return torch.stack(out_rec, dim=1), spk_rec


params = [w1, w2]
optimizer = torch.optim.Adamax(params, lr=2e-2)
log_softmax_fn = nn.LogSoftmax(dim=1)
loss_fn = nn.NLLLoss()
for e in range(20):
    local_loss = []
    for x_local, y_local in batches(X[:1437], y[:1437], True):
        output, recs = run_snn(x_local)
        m, _ = torch.max(output, 1)
        log_p_y = log_softmax_fn(m)
        reg_loss = 1e-5 * torch.sum(recs)
        loss_val = loss_fn(log_p_y, y_local) + reg_loss / len(y_local)
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
        local_loss.append(loss_val.item())
    print("Epoch %i: loss=%.5f" % (e + 1, np.mean(local_loss)))

accs = []
for x_local, y_local in batches(X[1437:], y[1437:], False):
    output, _ = run_snn(x_local)
    m, _ = torch.max(output, 1)
    accs.extend((torch.argmax(m, 1) == y_local).tolist())
print("Test accuracy: %.3f" % np.mean(accs))
