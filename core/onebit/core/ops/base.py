"""What an operator is: attributes, constraints, shape rule, NumPy semantics and flatbuffer options in one class.

An operator is a frozen dataclass of its attributes. `register` puts it into the registry by its name; the reader, the
writer, the spec, the evaluator and the docs all find it there. A `constraint` is one small method whose docstring is
the message a user sees when it does not hold, and the row in the generated list of supported operators.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from onebit.core.graph import Array, DType, Graph, Node, Tensor
from onebit.core.rounding import Rounding

Shape = tuple[int, ...]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class View:
    """A node together with its tensors and the graph's rounding, as constraints and semantics see it."""

    node: Node
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    rounding: Rounding = Rounding.LITERT

    @classmethod
    def of(cls, graph: Graph, node: Node) -> View:
        """Look the tensors of `node` up in `graph`."""
        inputs, outputs = (graph.tensor(n) for n in node.inputs), (graph.tensors[n] for n in node.outputs)
        return cls(node, tuple(inputs), tuple(outputs), graph.rounding)

    def input(self, i: int) -> Tensor:
        """Input `i`, which must be present."""
        tensor = self.inputs[i]
        assert tensor is not None
        return tensor

    def optional(self, i: int) -> Tensor | None:
        """Input `i`, None where it is absent or not listed."""
        return self.inputs[i] if i < len(self.inputs) else None

    @property
    def output(self) -> Tensor:
        """The only output."""
        return self.outputs[0]


Constraint = Callable[[Any, View], bool]
ConstraintT = TypeVar("ConstraintT", bound=Constraint)


def constraint(method: ConstraintT) -> ConstraintT:
    """Mark a method ``(self, view) -> bool`` as a constraint; its docstring says what must hold."""
    method.is_constraint = True  # type: ignore[attr-defined]
    return method


class Op(ABC):
    """Base of all operators. Subclasses are frozen dataclasses."""

    name: ClassVar[str]
    #: least and largest number of inputs
    arity: ClassVar[tuple[int, int]]
    #: operators that exist only inside onebit have no flatbuffer form
    internal: ClassVar[bool] = False
    #: the output is the first input under another shape, and shares its memory
    alias: ClassVar[bool] = False

    @abstractmethod
    def infer(self, view: View) -> tuple[Shape, DType]:
        """Shape and dtype of the output, from attributes and inputs (the declared output dtype may choose)."""

    @abstractmethod
    def evaluate(self, view: View, args: Sequence[Array | None]) -> Array:
        """The value of the output for input values `args` in stored form; the leading axis may hold N samples."""

    def packed_channels(self, inputs: Sequence[Tensor], output: Tensor) -> int | None:
        """Channels of an output that the file holds as int32 words, None where it holds no packed bits.

        Nothing has been checked yet; `inputs` are those that are present.
        """
        return None

    def macs(self, view: View) -> tuple[int, int]:
        """Multiply-accumulates of one inference, as (binary, other)."""
        return 0, 0

    @classmethod
    def constraints(cls) -> list[Constraint]:
        """The constraints of this operator, in order of definition."""
        found = [m for klass in reversed(cls.__mro__) for m in vars(klass).values() if hasattr(m, "is_constraint")]
        return list(dict.fromkeys(found))


class BuiltinOp(Op):
    """A TFLite builtin: `code` is its BuiltinOperator, `options_table` its options table in the schema (or None)."""

    code: ClassVar[int]
    options_table: ClassVar[str | None] = None

    @classmethod
    @abstractmethod
    def from_options(cls, options: Options) -> BuiltinOp:
        """Attributes from the decoded options table."""

    @abstractmethod
    def to_options(self) -> dict[str, Any]:
        """The options table that `from_options` reads back."""


class CustomOp(Op):
    """An LCE custom operator; its name is its custom code, its options a flexbuffer map of plain ints."""

    @classmethod
    @abstractmethod
    def from_options(cls, options: Options) -> CustomOp:
        """Attributes from the decoded flexbuffer map."""

    @abstractmethod
    def to_options(self) -> dict[str, int]:
        """The map that `from_options` reads back; empty for an operator without options."""


OPS: dict[str, type[Op]] = {}
OpT = TypeVar("OpT", bound=type[Op])


def register(op: OpT) -> OpT:
    """Class decorator: make the operator known under its name."""
    assert op.name not in OPS, f"{op.name} is registered twice"
    OPS[op.name] = op
    return op
