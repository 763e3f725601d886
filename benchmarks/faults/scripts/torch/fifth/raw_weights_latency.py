"""Surrogate gradients from first principles: weights are tensors, inputs fire once, the earlier the larger; synapses and membranes are loops."""
import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_wine

dtype = torch.float
torch.manual_seed(17)
np.random.seed(17)

nb_inputs, nb_hidden, nb_outputs = 13, 60, 3
nb_steps = 40
time_step = 1e-3
tau_mem, tau_syn = 10e-3, 5e-3
alpha = float(np.exp(-time_step / tau_syn))
beta = float(np.exp(-time_step / tau_mem))

x, y = load_wine(return_X_y=True)
x = (x - x.min(0)) / (x.max(0) - x.min(0))
shuffled = np.random.permutation(len(y))
x, y = x[shuffled], y[shuffled]
x_train, y_train, x_test, y_test = x[:120], y[:120], x[120:], y[120:]


def current2firing_time(x, tau=20, thr=0.15, tmax=nb_steps - 1, epsilon=1e-7):
    """Step of the first spike of a neuron with a constant current x; tmax if there is none."""
    idx = x < thr
    x = np.clip(x, thr + epsilon, 1e9)
    times = tau * np.log(x / (x - thr))
    times[idx] = tmax
    return np.minimum(times, tmax).astype(int)


def spike_data(x):
    """Dense spikes (samples, nb_steps, nb_inputs)."""
    times = current2firing_time(x)
    dense = torch.zeros(len(x), nb_steps, nb_inputs, dtype=dtype)
    for sample in range(len(x)):
        for unit in range(nb_inputs):
            if times[sample, unit] < nb_steps - 1:
                dense[sample, times[sample, unit], unit] = 1.0
    return dense


class SurrGradSpike(torch.autograd.Function):
    scale = 20.0

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
        grad = grad_input / (SurrGradSpike.scale * torch.abs(input) + 1.0) ** 2
        return grad


spike_fn = SurrGradSpike.apply
weight_scale = 7 * (1.0 - beta)
w1 = torch.empty((nb_inputs, nb_hidden), dtype=dtype, requires_grad=True)
torch.nn.init.normal_(w1, mean=0.0, std=weight_scale / np.sqrt(nb_inputs))
w2 = torch.empty((nb_hidden, nb_outputs), dtype=dtype, requires_grad=True)
torch.nn.init.normal_(w2, mean=0.0, std=weight_scale / np.sqrt(nb_hidden))


def run_snn(inputs):
    h1 = torch.einsum("abc,cd->abd", (inputs, w1))
    syn = torch.zeros((len(inputs), nb_hidden), dtype=dtype)
    mem = torch.zeros((len(inputs), nb_hidden), dtype=dtype)
    spk_rec = []
    for t in range(nb_steps):
        mthr = mem - 1.0
        out = spike_fn(mthr)
        rst = out.detach()
        new_syn = alpha * syn + h1[:, t]
        new_mem = (beta * mem + syn) * (1.0 - rst)
        spk_rec.append(out)
        mem = new_mem
        syn = new_syn
    spk_rec = torch.stack(spk_rec, dim=1)
    h2 = torch.einsum("abc,cd->abd", (spk_rec, w2))
    flt = torch.zeros((len(inputs), nb_outputs), dtype=dtype)
    out = torch.zeros((len(inputs), nb_outputs), dtype=dtype)
    out_rec = [out]
    for t in range(nb_steps):
        new_flt = alpha * flt + h2[:, t]
        new_out = beta * out + flt
        flt = new_flt
        out = new_out
        out_rec.append(out)
    return torch.stack(out_rec, dim=1), spk_rec


log_softmax_fn = nn.LogSoftmax(dim=1)
loss_fn = nn.NLLLoss()
optimizer = torch.optim.Adamax([w1, w2], lr=1e-2, betas=(0.9, 0.999))
train_spikes, train_labels = spike_data(x_train), torch.tensor(y_train)
for e in range(30):
    local_loss = []
    for rows in torch.randperm(len(train_labels)).split(30):
        output, recs = run_snn(train_spikes[rows])
        m, _ = torch.max(output, 1)
        log_p_y = log_softmax_fn(m)
        reg_loss = 1e-5 * torch.sum(recs)
        loss_val = loss_fn(log_p_y, train_labels[rows]) + reg_loss
        optimizer.zero_grad()
        loss_val.backward()
        optimizer.step()
        local_loss.append(loss_val.item())
    if e % 5 == 0:
        print("Epoch %i: loss=%.5f" % (e + 1, np.mean(local_loss)))

with torch.no_grad():
    output, _ = run_snn(spike_data(x_test))
    am = output.max(1).values.argmax(1)
print("Test accuracy: %.3f" % (am == torch.tensor(y_test)).float().mean().item())
