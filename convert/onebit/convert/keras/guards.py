"""What LCE's converter silently gets wrong, rewritten before it sees it.

Every guard takes a frozen graph and gives one that computes the same, to the bit, in a form that the converter keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from onebit.convert.keras.frozen import Frozen, Nodes, Runner, constant
from onebit.core.errors import UnsupportedError
from onebit.core.graph import Array

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
ADDITIONS = ("Add", "AddV2")


def guard(frozen: Frozen) -> tuple[Frozen, tuple[str, ...]]:
    """The graph after all guards, and a note for the user for each rewrite that costs something."""
    notes: list[str] = []
    for rewrite in GUARDS:
        editor = _Editor(frozen)
        rewrite(editor)
        notes += editor.notes
        frozen = editor.result()
    return frozen, tuple(notes)


class _Editor:
    """A copy of a frozen graph to which nodes are added; `nodes` and `runner` see the graph as it was."""

    def __init__(self, frozen: Frozen) -> None:
        self._frozen = frozen
        self._graph_def = tf.compat.v1.GraphDef()
        self._graph_def.CopyFrom(frozen.graph_def)
        self.nodes = Nodes(Frozen(self._graph_def, frozen.input, frozen.output))
        self.runner = Runner(frozen)
        self.notes: list[str] = []

    def result(self) -> Frozen:
        return Frozen(self._graph_def, self._frozen.input, self._frozen.output)

    def constant(self, name: str) -> Array | None:
        return constant(self.nodes, self.runner, name)

    def add(self, operation: str, name: str, inputs: list[str], like: Any) -> str:
        """A new node of the element types of `like`; the name of its result."""
        node = self._graph_def.node.add(op=operation, name=self._fresh(name), input=inputs)
        for attribute in ("T", "Tpaddings"):
            if attribute in like.attr:
                node.attr[attribute].CopyFrom(like.attr[attribute])
        return str(node.name)

    def add_constant(self, name: str, value: Array) -> str:
        node = self._graph_def.node.add(op="Const", name=self._fresh(name))
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        node.attr["dtype"].type = node.attr["value"].tensor.dtype
        return str(node.name)

    def _fresh(self, name: str) -> str:
        taken = {node.name for node in self._graph_def.node}
        while name in taken:
            name += "_"
        return name


def larq_sign(nodes: Nodes, runner: Runner, node: Any) -> tuple[Any, Any, Any] | None:
    """The three nodes of ``sign(sign(x) + c)`` with 0 < c < 1, which is Larq's sign, if `node` is the last of them."""
    if node.op != "Sign":
        return None
    addition = nodes.operand(node, 0)
    if addition.op not in ADDITIONS:
        return None
    for i in (0, 1):
        shift = constant(nodes, runner, nodes.inputs(addition)[i])
        inner = nodes.operand(addition, 1 - i)
        if shift is not None and shift.ndim == 0 and 0 < shift < 1 and inner.op == "Sign":
            return node, addition, inner
    return None


def signed_values(frozen: Frozen, runner: Runner, signs: Mapping[str, Array]) -> dict[str, str]:
    """Of those nodes `signs` that are Larq's sign of as many values: node -> the node of these values."""
    nodes = Nodes(frozen)
    found = {name: larq_sign(nodes, runner, nodes.by_name[name]) for name in signs}
    return {
        name: nodes.inputs(sign[2])[0]
        for name, sign in found.items()
        if sign is not None and runner.size(name) == signs[name].size and not _is_later_output(sign[2].input[0])
    }


def _is_later_output(text: str) -> bool:
    return text.partition(":")[2] not in ("", "0")


# ------------------------------------------------------------------------------------------------- symmetric padding


def keep_explicit_padding(editor: _Editor) -> None:
    """Padding in front of a strided VALID convolution that differs from SAME padding of the same output size.

    The converter folds ``pad(1, 1)`` into SAME although SAME with stride 2 on an even map pads (0, 1). It asks that the
    smaller half of the padding stands in front; so the padding is split in two, the second of which has everything in
    front. Padding with +1 behind a sign moves in front of it, where the converter never folds it: sign(1) is +1.
    """
    for conv in list(editor.nodes.dynamic()):
        if conv.op not in CONVOLUTIONS:
            continue
        if conv.attr["padding"].s == b"EXPLICIT":
            raise UnsupportedError(
                "a convolution with explicit padding", where=f"'{conv.name}'", fix="put a ZeroPadding2D in front of it"
            )
        pad = editor.nodes.operand(conv, 0)
        if conv.attr["padding"].s != b"VALID" or pad.op not in ("Pad", "PadV2"):
            continue
        padding = editor.constant(editor.nodes.inputs(pad)[1])
        if padding is None or not _differs_from_same(editor, conv, pad, padding):
            continue
        sign = _sign_of(editor, editor.nodes.operand(pad, 0))
        if sign is not None and _pad_value(editor, pad) == 1:
            conv.input[0] = _signed_behind(editor, pad, sign)
        else:
            conv.input[0] = _padded_twice(editor, pad, padding)


def _differs_from_same(editor: _Editor, conv: Any, pad: Any, padding: Array) -> bool:
    """Whether SAME windows, ceil(in / s) of them, start elsewhere than the explicit padding says."""
    shape = editor.runner.shape(editor.nodes.inputs(pad)[0])
    filter_shape = editor.runner.shape(editor.nodes.inputs(conv)[1])
    assert shape is not None
    assert filter_shape is not None
    for axis in (1, 2):
        size, kernel = shape[axis], filter_shape[axis - 1]
        stride, dilation = (int(conv.attr[name].list.i[axis]) for name in ("strides", "dilations"))
        if stride == 1 or size is None or kernel is None:
            continue
        total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        if padding[axis, 0] != total // 2:
            return True
    return False


def _pad_value(editor: _Editor, pad: Any) -> float | None:
    if pad.op == "Pad":
        return 0.0
    value = editor.constant(editor.nodes.inputs(pad)[2])
    return None if value is None else float(value)


def _sign_of(editor: _Editor, node: Any) -> tuple[Any, Any, Any] | None:
    return larq_sign(editor.nodes, editor.runner, node)


def _signed_behind(editor: _Editor, pad: Any, sign: tuple[Any, Any, Any]) -> str:
    """``sign(pad(x))`` for ``pad(sign(x))``."""
    outer, addition, inner = sign
    shift = next(name for name in editor.nodes.inputs(addition) if not editor.nodes.is_dynamic(name))
    x = editor.nodes.inputs(inner)[0]
    padded = editor.add("PadV2", f"{pad.name}/in_front", [x, *editor.nodes.inputs(pad)[1:]], pad)
    signed = editor.add("Sign", f"{inner.name}/padded", [padded], inner)
    shifted = editor.add("AddV2", f"{addition.name}/padded", [signed, shift], addition)
    return editor.add("Sign", f"{outer.name}/padded", [shifted], outer)


def _padded_twice(editor: _Editor, pad: Any, padding: Array) -> str:
    """All of the padding but one pixel in front; then that pixel."""
    front = np.zeros_like(padding)
    front[1:3, 0] = np.minimum(padding[1:3, 0], 1)
    result = editor.nodes.inputs(pad)[0]
    for part, name in ((padding - front, "first"), (front, "in_front")):
        amounts = editor.add_constant(f"{pad.name}/{name}/paddings", part)
        result = editor.add(pad.op, f"{pad.name}/{name}", [result, amounts, *editor.nodes.inputs(pad)[2:]], pad)
    return result


# ------------------------------------------------------------------------------------------------- ternary activations


def keep_ternary_activations(editor: _Editor) -> None:
    """``sign(sign(x + t) + sign(x - t))``, which the converter takes for ``sign(x + t)``.

    A sum of two values out of -1, 0, +1, clipped to [-1, 1], is its sign.
    """
    for node in list(editor.nodes.dynamic()):
        if node.op != "Sign" or _sign_of(editor, node) is not None:
            continue
        addition = editor.nodes.operand(node, 0)
        if addition.op not in (*ADDITIONS, "Sub"):
            continue
        terms = [editor.nodes.operand(addition, i) for i in (0, 1)]
        signs = [term.op == "Sign" for term in terms]
        if not any(signs):
            continue
        if not all(signs):
            raise UnsupportedError(
                "the sign of a sum with a sign, which LCE's converter takes for the sign of the one term",
                where=f"'{node.name}'",
                fix="use ste_sign, or put the terms in other layers",
            )
        limits = [editor.add_constant(f"{node.name}/{side}", np.array(side, np.float32)) for side in (1, -1)]
        upper = editor.add("Minimum", f"{node.name}/below", [addition.name, limits[0]], node)
        clipped = editor.add("Maximum", f"{node.name}/clipped", [upper, limits[1]], node)
        _replace(editor, node.name, clipped)
        editor.notes.append(
            f"'{node.name}': its three levels -1, 0, +1 have no bits in LCE, what reads them stays real-valued; "
            "train it with ste_sign or approx_sign"
        )


def _replace(editor: _Editor, old: str, new: str) -> None:
    """Every reader of the node `old` reads `new`."""
    for node in editor.result().graph_def.node:
        for i, text in enumerate(node.input):
            if text in (old, f"{old}:0"):
                node.input[i] = new


GUARDS: tuple[Callable[[_Editor], None], ...] = (keep_explicit_padding, keep_ternary_activations)
