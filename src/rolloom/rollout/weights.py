"""Weights on their way from the learner to the engines: numpy arrays, and a checksum both compute."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch


def to_arrays(state: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Return copies on the CPU. numpy has no bfloat16: such a tensor travels as its bits, in uint16."""
    arrays = {}
    for name, value in state.items():
        held = value.detach().cpu().contiguous()
        bits = held.view(torch.int16) if held.dtype is torch.bfloat16 else held
        array = bits.numpy().copy()
        arrays[name] = array.view(np.uint16) if held.dtype is torch.bfloat16 else array
    return arrays


def to_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Return the tensors `to_arrays` was given; they share no memory with the arrays."""
    tensors = {}
    for name, array in arrays.items():
        # Ray's memory is read-only, which torch does not know how to respect.
        own = torch.from_numpy(np.array(array.view(np.int16) if array.dtype == np.uint16 else array))
        tensors[name] = own.view(torch.bfloat16) if array.dtype == np.uint16 else own
    return tensors


def weights_checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """Return a digest of every weight's name, type, shape and bytes, independent of the order of names."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
