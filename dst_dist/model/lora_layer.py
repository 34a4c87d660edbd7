"""peft's LoRA layer with fewer passes over its inputs and outputs: what costs a GPU's time there is memory traffic."""

import torch
from peft.tuners.lora import Linear
from torch import nn


class LoraLinear(Linear):
    """peft's LoRA layer, computed as W x + B (scale * A x) instead of W x + scale * (B A x).

    The scale multiplies `rank` values a token instead of every output, forward and backward; a scale that is a power of
    two gives the same bits. Inputs stay in the dtype they have: peft makes them float32, from which autocast takes them
    back to bfloat16. With dropout they go peft's way, since 1 / (1 - dropout) is rounded in the input's dtype.
    """

    def forward(self, x: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        """Return the layer's output, in the dtype of the linear layer's."""
        (name, *others) = self.active_adapters
        if arguments or options or others or not self._is_plain(name):
            return super().forward(x, *arguments, **options)
        output, dropout = self.base_layer(x), self.lora_dropout[name]
        if not isinstance(dropout, nn.Identity):
            x = dropout(x.to(self.lora_A[name].weight.dtype))
        return output + self.lora_B[name](self.lora_A[name](x) * self.scaling[name])

    def _is_plain(self, name: str) -> bool:
        """Return whether the adapter is in use, and none of peft's variants of LoRA."""
        is_used = name in self.lora_A and not self.disable_adapters and not self.merged
        return is_used and name not in self.lora_variant and self.lora_B[name].bias is None
