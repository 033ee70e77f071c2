"""Losses, energies and scores are computed in float32 at least, whatever precision the network runs in."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Convert float16 and bfloat16 to float32; float32 and float64 stay."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def available_precision(wanted: str, device: str) -> str:
    """Resolve ``auto`` for a device, ``cpu`` or ``cuda``: ``bf16`` where the hardware computes in it, else ``no``."""
    if wanted != "auto":
        return wanted
    if device == "cuda":
        return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch does not tell
    return "bf16" if capabilities.get("amx_bf16") else "no"
