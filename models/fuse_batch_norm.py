"""The fast form of a network: batch norm folded into convolutions, kernels stored as the CPU wants them.

Both keep the function; what they save is passes over memory. For inference only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.backbones.resnet import Projection

PLAIN = (nn.Conv2d, Projection)  # other forms of a convolution do more than their kernel and stride tell


def fold_batch_norm(module: nn.Module) -> None:
    """Fold every `BatchNorm2d` that is registered right after its convolution, in place, evaluation mode only.

    All our blocks register a norm directly behind the convolution that feeds it.
    """
    previous = None
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d) and isinstance(previous, nn.Conv2d | nn.ConvTranspose2d):
            _fold(previous, child)
            setattr(module, name, nn.Identity())
        else:
            fold_batch_norm(child)
        previous = child


@torch.no_grad()
def _fold(convolution: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> None:
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    outputs = -3 if isinstance(convolution, nn.ConvTranspose2d) else -4  # axis of the output channels
    convolution.weight.mul_(scale.view(-1, *(1,) * (-outputs - 1)))
    bias = torch.zeros_like(norm.running_mean) if convolution.bias is None else convolution.bias
    convolution.bias = nn.Parameter((bias - norm.running_mean) * scale + norm.bias, requires_grad=False)


class PackedConv2d(nn.Module):
    """A convolution whose kernel is kept in oneDNN's own layout, so that no call has to rearrange it again.

    `input_shape` is what the layout is chosen for; other sizes work too. CPU and float32 only.
    """

    def __init__(self, convolution: nn.Conv2d, input_shape: torch.Size):
        super().__init__()
        self.bias = convolution.bias
        self.geometry = (convolution.padding, convolution.stride, convolution.dilation, convolution.groups)
        # Opaque to torch's own operators, hence no parameter.
        self.packed = torch.ops.mkldnn._reorder_convolution_weight(
            convolution.weight.detach(), *self.geometry, list(input_shape)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.packed, self.bias, *self.geometry, "none", [], None
        )


def can_pack(device: torch.device) -> bool:
    """Whether this build of torch has oneDNN's packed convolutions for the device."""
    names = ("_reorder_convolution_weight", "_convolution_pointwise")
    known = torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)
    return device.type == "cpu" and known


@torch.no_grad()
def pack_convolutions(network: nn.Module, example: Tensor) -> None:
    """Replace the plain convolutions of a CPU network by packed ones, in place; `example` is a typical input."""
    shapes: dict[nn.Module, torch.Size] = {}
    hooks = [
        module.register_forward_pre_hook(lambda m, args: shapes.update({m: args[0].shape}))
        for module in network.modules()
        if type(module) in PLAIN
    ]
    network(example)
    for hook in hooks:
        hook.remove()
    # Hold no convolution but the one in hand, so that its kernel is freed as soon as the packed form exists.
    for parent in [module for module in network.modules() if module not in shapes]:
        for name in [name for name, child in parent.named_children() if child in shapes]:
            convolution = getattr(parent, name)
            setattr(parent, name, PackedConv2d(convolution, shapes.pop(convolution)))
