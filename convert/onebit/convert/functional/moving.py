"""Functions that move elements."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name PyTorch's own documentation uses
from torch import Tensor, nn

from onebit.convert.functional.base import Form, NoForm, Operand, makes, unary
from onebit.convert.operations import Concat, Expand, Pad, Permute, Reshape, Slice


@makes(torch.cat, torch.concat, torch.concatenate)
def _cat(tensors: Sequence[Any], dim: int = 0) -> Form:
    operands = tuple(tensors)
    if not all(isinstance(x, Operand) for x in operands):
        raise NoForm("a constant among what is joined", "join computed tensors only")
    dim %= len(operands[0].shape)
    if dim == 0:
        raise NoForm("joining along the batch", "join along dim=1")
    return Concat(dim), operands


@makes("repeat", torch.tile, "tile")
def _repeat(x: Operand, *repeats: Any) -> Form:
    times = tuple(repeats[0]) if len(repeats) == 1 and not isinstance(repeats[0], int) else repeats
    grown = [dim for dim, count in enumerate(times) if count != 1]
    if len(times) != len(x.shape) or len(grown) > 1 or grown == [0]:
        raise NoForm(f"repeating {list(times)} times", "repeat along one dimension behind the batch")
    return (Concat(grown[0]), (x,) * times[grown[0]]) if grown else (nn.Identity(), (x,))


@makes(operator.getitem)
def _getitem(x: Operand, index: Any) -> Form:
    parts = list(index) if isinstance(index, tuple) else [index]
    rank = len(x.shape)
    read = rank - sum(part is not None and part is not Ellipsis for part in parts)
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * read
    else:
        parts += [slice(None)] * read
    taken = [part for part in parts if part is not None]
    if len(taken) == rank and all(_is_only(part, size) for part, size in zip(taken, x.shape, strict=True)):
        return unary(x, Reshape(()))  # as for `_reshape`
    if len(parts) != rank or not all(isinstance(part, slice) for part in parts):
        raise NoForm("an index other than slices", "use slices only, as x[:, 2:4]")
    bounds = [part.indices(size) for part, size in zip(parts, x.shape, strict=True)]
    if bounds[0] != (0, x.shape[0], 1):
        raise NoForm("slicing the batch", "leave the batch as it is")
    return unary(x, Slice(tuple(bounds[1:])))


def _is_only(part: Any, size: int) -> bool:
    """Whether an index takes all there is of a dimension, or the only element of one."""
    return part == slice(None) or (size == 1 and isinstance(part, int) and part in (0, -1))


@makes("narrow", torch.narrow)
def _narrow(x: Operand, dim: int, start: int, length: int) -> Form:
    parts = [slice(None)] * len(x.shape)
    parts[dim] = slice(start, start + length)
    return _getitem(x, tuple(parts))


def piece_of(x: Operand, pieces: Sequence[Tensor], index: int) -> Form:
    """The module that computes one of the `pieces` that chunk or split made of `x`."""
    shapes = [tuple(piece.shape) for piece in pieces]
    whole = x.shape
    axes = [i for i, size in enumerate(whole) if size != sum(s[i] for s in shapes[:1])]
    if len(pieces) == 1:
        return unary(x, nn.Identity())
    start = sum(shape[axes[0]] for shape in shapes[:index])
    return _narrow(x, axes[0], start, shapes[index][axes[0]])


#: functions that return a tuple of pieces
PIECES: frozenset[Any] = frozenset({torch.chunk, torch.split, torch.functional.split, "chunk", "split"})


@makes(F.pad)
def _pad(input: Operand, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Form:  # noqa: A002
    if mode != "constant":
        raise NoForm(f"padding with mode '{mode}'", "pad with a constant")
    rank = len(input.shape)
    pairs = [(0, 0)] * rank
    for i in range(len(pad) // 2):
        pairs[rank - 1 - i] = (int(pad[2 * i]), int(pad[2 * i + 1]))
    if pairs[0] != (0, 0) or min(min(pair) for pair in pairs) < 0:
        raise NoForm(f"padding by {list(pad)}", "use widths from 0, none of the batch")
    return unary(input, Pad(tuple(pairs[1:]), 0.0 if value is None else float(value)))


@makes(torch.flatten, "flatten", torch.reshape, "reshape", "view", "unflatten", torch.unflatten,
        "squeeze", torch.squeeze, "unsqueeze", torch.unsqueeze)  # fmt: skip
def _reshape(x: Operand, *_: Any, **__: Any) -> Form:
    return unary(x, Reshape(()))  # the shape is known from the call's result, see `shaped`


def shaped(module: nn.Module, result: Tensor) -> nn.Module:
    """A `Reshape` or `Expand` with the shape of the call's result, flattening in most cases; others as they are."""
    shape = tuple(result.shape[1:])
    if isinstance(module, Reshape):
        return nn.Flatten() if len(shape) == 1 else Reshape(shape)
    return Expand(shape) if isinstance(module, Expand) else module


@makes("permute", torch.permute)
def _permute(x: Operand, *order: Any) -> Form:
    dims = tuple(order[0]) if len(order) == 1 else order
    dims = tuple(int(d) % len(x.shape) for d in dims)
    if dims[0] != 0:
        raise NoForm("moving the batch", "leave the batch in front")
    return unary(x, Permute(dims))


@makes("transpose", torch.transpose, "swapaxes")
def _transpose(x: Operand, dim0: int, dim1: int) -> Form:
    dims = list(range(len(x.shape)))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return _permute(x, dims)


@makes("expand", "expand_as", torch.broadcast_to, "broadcast_to")
def _expand(x: Operand, *_: Any) -> Form:
    return unary(x, Expand(()))  # as for `_reshape`
