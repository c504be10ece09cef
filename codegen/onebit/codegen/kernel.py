"""What a kernel is to the compiler: which operators it computes on which targets, at what cost, and how it is called.

A kernel registers beside its definition in `onebit.codegen.kernels`; selection takes the cheapest that supports the
node on the target. Nothing else in the compiler knows a kernel by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from onebit.codegen.options import Optimize
from onebit.codegen.targets import Target
from onebit.core.errors import UnsupportedError
from onebit.core.graph import Array, DType, Tensor
from onebit.core.ops import Op, View


class Layout(Enum):
    """How a tensor lies in memory."""

    #: [H, W, C] elements, for int8 and float
    DENSE = "dense"
    #: packed signs, words of 32 channels per pixel: LCE's layout
    CHANNEL_PACKED = "channel-packed"
    #: packed signs, words of 32 pixels per channel: [C][ceil(H*W/32)], pixel y*W+x in word n/32, bit n%32
    PIXEL_LANES = "pixel-lanes"


def default_layout(tensor: Tensor) -> Layout:
    """The layout of model inputs and outputs, and of kernels that do not say otherwise."""
    return Layout.CHANNEL_PACKED if tensor.dtype is DType.BITS else Layout.DENSE


def stored_bytes(tensor: Tensor, layout: Layout) -> int:
    """Bytes of an activation in this layout."""
    if layout is not Layout.PIXEL_LANES:
        return tensor.nbytes
    pixels = tensor.elements // tensor.shape[-1]
    return tensor.shape[-1] * (-(-pixels // 32)) * 4


#: fields of a struct: a constant array is a pointer to it, None a null pointer, a mapping a nested struct
Fields = Mapping[str, "int | Constant | Pitch | Fields | None"]


@dataclass(frozen=True)
class Input:
    """Argument: pointer to activation input `index` of the node, to its element `offset`."""

    index: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Output:
    """Argument: pointer to the node's output, to its element `offset`."""

    offset: int = 0


@dataclass(frozen=True)
class Signs:
    """Argument: pointer to the packed signs of the node's output, of a kernel that takes them as it computes."""


@dataclass(frozen=True)
class Pitch:
    """Argument or field: elements from one pixel of the node's output to the next.

    A kernel that is given it writes its own channels only, so that its output can lie among those of a larger map.
    """


@dataclass(frozen=True)
class Scratch:
    """Argument: pointer to `bytes` of uninitialised memory of C type `ctype`, valid during the call."""

    ctype: str
    bytes: int


@dataclass(frozen=True)
class Struct:
    """Argument: pointer to a constant struct of C type `ctype`."""

    ctype: str
    fields: Fields


@dataclass(frozen=True, eq=False)
class Constant:
    """Argument: a constant array; `role` becomes part of its C name. uint32 for packed bits."""

    role: str
    data: Array
    comment: str = ""


@dataclass(frozen=True)
class Literal:
    """Argument: an int, or a float written in hexadecimal."""

    value: int | float


Arg = Input | Output | Signs | Pitch | Scratch | Struct | Constant | Literal


def constants_of(arg: Arg) -> Iterator[Constant]:
    """The constant arrays that an argument holds."""
    if isinstance(arg, Constant):
        yield arg
    elif isinstance(arg, Struct):
        yield from _constants_in(arg.fields)


def _constants_in(fields: Fields) -> Iterator[Constant]:
    for value in fields.values():
        if isinstance(value, Constant):
            yield value
        elif isinstance(value, Mapping):
            yield from _constants_in(value)


def knows_pitch(arg: Arg) -> bool:
    """Whether an argument is, or holds, the pitch of the output."""
    return isinstance(arg, Pitch) or (
        isinstance(arg, Struct) and any(isinstance(v, Pitch) for v in arg.fields.values())
    )


@dataclass(frozen=True)
class Call:
    """One call of a public kernel function."""

    function: str
    args: tuple[Arg, ...]


#: the arguments of the one call that computes a node, or several calls
Lowered = tuple[Arg, ...] | tuple[Call, ...]


@dataclass(frozen=True)
class Placed(View):
    """A node of which some tensors are channels of larger maps: `pitches` has their elements from pixel to pixel."""

    pitches: Mapping[str, int] = field(default_factory=dict)


def pitch_in(view: View, tensor: Tensor) -> int:
    """Elements, or words of packed bits, from one pixel of a tensor of the node to the next."""
    contiguous = tensor.stored_shape[-1]
    return view.pitches.get(tensor.name, contiguous) if isinstance(view, Placed) else contiguous


def _anything(_: View) -> bool:
    return True


def _never(_: View) -> bool:
    return False


def _nowhere(_: View) -> tuple[int, ...]:
    return ()


@dataclass(frozen=True)
class Kernel:
    """A public C function `function` in `sources`, declared in `header`, that computes nodes of operator `op`.

    `cost` estimates executed instructions; `lower` builds the call of `function`, or several calls of functions in
    `sources`; `requires` names extensions that the target must
    have. `layouts` is (input, output), None for the
    default of the tensor. `in_place` gives the positions of the inputs over which the output may be written, both
    starting at the same address: the kernel does not read a byte of them after it wrote there, and no compiler may
    assume otherwise (equal element types, or int8 on one side, which in C may alias anything). `reads_pitch` gives the
    positions of the inputs that may be some channels of larger maps, `pitch_in` saying how far apart their pixels are;
    `writes_pitch` says the same of the output of a kernel that has no argument `Pitch`. `with_signs` computes the same
    and also writes the `Signs` of the output, which need not be read again; its cost is that of both.
    """

    function: str
    header: str
    sources: tuple[str, ...]
    op: type[Op]
    lower: Callable[[View], Lowered]
    cost: Callable[[View], float]
    supports: Callable[[View], bool] = _anything
    requires: frozenset[str] = frozenset()
    layouts: tuple[Layout | None, Layout | None] = (None, None)
    in_place: Callable[[View], tuple[int, ...]] = _nowhere
    reads_pitch: Callable[[View], tuple[int, ...]] = _nowhere
    writes_pitch: Callable[[View], bool] = _never
    with_signs: Kernel | None = None

    def calls(self, view: View) -> tuple[Call, ...]:
        """The calls that compute this node, in order."""
        lowered = self.lower(view)
        calls = tuple(item for item in lowered if isinstance(item, Call))
        return calls or (Call(self.function, tuple(item for item in lowered if not isinstance(item, Call))),)

    def input_layout(self, tensor: Tensor) -> Layout:
        """Layout in which the kernel reads its activations."""
        return self.layouts[0] or default_layout(tensor)

    def output_layout(self, tensor: Tensor) -> Layout:
        """Layout in which the kernel writes its output."""
        return self.layouts[1] or default_layout(tensor)


KERNELS: Final[list[Kernel]] = []


def every_kernel() -> Iterator[Kernel]:
    """The registered kernels, each followed by the one that takes signs too."""
    for kernel in KERNELS:
        yield kernel
        if kernel.with_signs is not None:
            yield kernel.with_signs


def register_kernel(kernel: Kernel) -> Kernel:
    """Add a kernel to the registry."""
    KERNELS.append(kernel)
    return kernel


def select_kernel(view: View, target: Target, optimize: Optimize = "speed") -> Kernel:
    """The best registered kernel for the node on the target; UnsupportedError where there is none.

    For speed: with the fewest instructions. For size: with the fewest KiB of constants, for RAM: with the least scratch
    memory, and where these are equal the fewest instructions.
    """
    found = [
        k for k in KERNELS if isinstance(view.node.op, k.op) and k.requires <= target.extensions and k.supports(view)
    ]
    if not found:
        tensors = ", ".join(t.describe() for t in (*view.inputs, *view.outputs) if t is not None)
        raise UnsupportedError(
            f"no kernel for this form ({tensors})", where=f"{view.node.describe()} on {target.name}",
            fix="see docs/supported-ops.md for what each operator allows",
        )  # fmt: skip
    return min(found, key=lambda k: (_memory_cost(k, view, optimize) if len(found) > 1 else 0, k.cost(view)))


def _memory_cost(kernel: Kernel, view: View, optimize: Optimize) -> int:
    """What counts before instructions. Less than a KiB of flash, or a word of RAM, is not worth slower code."""
    if optimize == "speed":
        return 0
    args = [arg for call in kernel.calls(view) for arg in call.args]
    if optimize == "size":
        return sum(constant.data.nbytes for arg in args for constant in constants_of(arg)) // 1024
    return max((-(-arg.bytes // 4) for arg in args if isinstance(arg, Scratch)), default=0)
