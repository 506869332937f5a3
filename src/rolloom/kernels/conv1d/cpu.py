"""The causal convolution in plain torch, in two formulations, and how packed sequences reach either.

Shapes: B batch, T tokens, C channels, k kernel width, S sequences.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from rolloom.kernels import invariant
from rolloom.kernels.conv1d.packed import over_packed
from rolloom.kernels.packing import Packing

Convolve = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None], torch.Tensor]
"""Of x `[B, T, C]`, weight, bias and initial state or None, to the output `[B, T, C]`."""


def shifted(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, initial_state: torch.Tensor | None
) -> torch.Tensor:
    """Convolve as k shifted multiply-adds in the channels-last layout its neighbours use: no transposes."""
    width, length = weight.shape[1], x.shape[1]
    padded = _before(x, width, initial_state)
    out = padded[:, :length] * weight[:, 0]
    for tap in range(1, width):
        out = torch.addcmul(out, padded[:, tap : tap + length], weight[:, tap])
    return F.silu(out if bias is None else out + bias)


def channels_last(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, initial_state: torch.Tensor | None
) -> torch.Tensor:
    """Convolve as an image of height 1 whose channels already lie innermost: oneDNN has a kernel for that."""
    if not x.numel():
        return shifted(x, weight, bias, initial_state)
    image = _before(x, weight.shape[1], initial_state).transpose(1, 2)[:, :, None]
    out = F.conv2d(image, weight[:, None, None], bias, groups=weight.shape[0])
    return F.silu(out[:, :, 0].transpose(1, 2))


def _before(x: torch.Tensor, width: int, initial_state: torch.Tensor | None) -> torch.Tensor:
    if initial_state is None:
        return F.pad(x, (0, 0, width - 1, 0))
    return torch.cat((initial_state.to(x), x), 1)


def run(
    convolve: Convolve,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    initial_state: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    final_state: bool,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Convolve a batch, or packed sequences laid apart by k - 1 rows: their initial states, or zeros."""
    halo = weight.shape[1] - 1
    if cu_seqlens is None:
        out = convolve(x, weight, bias, initial_state)
        if not final_state:
            return out
        tail = _before(x[:, max(0, x.shape[1] - halo) :], halo + 1, initial_state)
        return out, tail[:, tail.shape[1] - halo :]
    tokens, channels = x.shape[1:]
    sequences = cu_seqlens.shape[0] - 1
    token = torch.arange(tokens, device=x.device)
    order = torch.arange(sequences, device=x.device)
    # What lies beyond the last sequence counts as one more, is read as zeros and gives zeros.
    sequence = torch.searchsorted(cu_seqlens[1:].to(token), token, right=True)
    valid = (sequence < sequences)[:, None]
    place = token + (sequence + 1) * halo
    apart = x.new_zeros(tokens + (sequences + 1) * halo, channels)
    apart = apart.index_copy(0, place, torch.where(valid, x[0], 0))
    row = order[:, None] * halo + torch.arange(halo, device=x.device)
    if initial_state is not None:
        first = (cu_seqlens[:-1, None] + row).flatten()
        apart = apart.index_copy(0, first, initial_state.to(x).flatten(0, 1))
    out = convolve(apart[None], weight, bias, None)[0].index_select(0, place)
    out = torch.where(valid, out, 0)[None]
    if not final_state:
        return out
    last = (cu_seqlens[1:, None] + row).flatten()
    return out, apart.index_select(0, last).unflatten(0, (sequences, halo))


def convolve_invariant(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    initial_state: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    final_state: bool,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Convolve by one product and one sum a tap, as `update_invariant` does: a token's bits are its own.

    `weight` `[C, k]` and `bias` `[C]` may also be given for each token, `[B * T, C, k]` and `[B * T, C]`.
    """
    halo = weight.shape[-1] - 1

    def convolve(whole: torch.Tensor, state: torch.Tensor | None, packing: Packing) -> torch.Tensor:
        tokens = packing.tokens
        if state is None:
            state = whole.new_zeros(packing.sequences, halo, whole.shape[1])
        history = torch.cat((state.flatten(0, 1), whole))
        owners, places = packing.owners(x.device), packing.places(x.device)
        behind, own = owners * halo, torch.arange(tokens, device=x.device) + len(history) - tokens

        def reach(back: int) -> torch.Tensor:
            place = torch.where(places >= back, own - back, behind + halo + places - back)
            return history.index_select(0, place)

        earlier = [reach(halo - tap) for tap in range(halo)]
        added = None if bias is None else _tokens(bias, tokens, 1)
        return _taps(earlier, whole, _tokens(weight, tokens, 2), added)

    return over_packed(convolve, halo, x, initial_state, cu_seqlens, final_state)


def _tokens(parameter: torch.Tensor, tokens: int, dims: int) -> torch.Tensor:
    return parameter[:tokens] if parameter.dim() > dims else parameter


def _taps(
    earlier: list[torch.Tensor], x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    out = x * weight[..., len(earlier)]
    for tap, shifted in enumerate(earlier):
        out = out + shifted * weight[..., tap]
    return invariant.silu(out if bias is None else out + bias)


def update_invariant(
    state: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Advance by one token with the bits of `convolve_invariant`."""
    out = _taps(list(state.unbind(1)), x, weight, bias)
    state.copy_(torch.cat((state[:, 1:], x[:, None].to(state)), 1))
    return out
