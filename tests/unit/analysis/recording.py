"""What enters and leaves modules, recorded with hooks of the tests."""

import torch


def recorded(net, kinds, run):
    """(arguments, output) of every call of the modules of some classes while ``run`` runs, by the names of the modules."""
    calls, handles = {}, []
    for name, module in net.named_modules():
        if isinstance(module, kinds):

            def keep(module, arguments, output, name=name):
                spikes = output[0] if isinstance(output, tuple) else output
                calls.setdefault(name, []).append((arguments[0].detach().clone(), spikes.detach()))

            handles.append(module.register_forward_hook(keep))
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return calls
