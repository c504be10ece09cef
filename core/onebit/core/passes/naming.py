"""Names for the tensors that a pass adds."""

from __future__ import annotations

from collections.abc import Container

from onebit.core.graph import Graph


def unique_name(taken: Container[str], wanted: str) -> str:
    """`wanted`, or the first of ``wanted_1``, ``wanted_2``, ... that is not taken."""
    name, count = wanted, 0
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    return name


def fresh_name(graph: Graph, wanted: str) -> str:
    """A name that no tensor of `graph` has: a new value never goes under an old name."""
    return unique_name(graph.tensors, wanted)
