"""Running passes: `Graph -> Graph` functions in one visible order, the spec checked after each.

A pass is a function; its name is the function's name. A tensor that keeps its name keeps its value, so what a pass
proved away is what disappears from the graph, and the pipeline can say for every source tensor who eliminated it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onebit.core import spec
from onebit.core.graph import Graph

Pass = Callable[[Graph], Graph]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PassResult:
    """The rewritten graph, and for every activation of the source graph that is gone, the pass that eliminated it."""

    graph: Graph
    eliminated: Mapping[str, str]


def run_passes(graph: Graph, passes: Sequence[Pass]) -> PassResult:
    """Apply `passes` in order; verify the spec after each (the error names the pass)."""
    eliminated: dict[str, str] = {}
    source = [t.name for t in graph.activations()]
    for step in passes:
        name = step.__name__
        rewritten = step(graph)
        if rewritten is not graph:
            spec.verify(rewritten, name)
            present = {t.name for t in rewritten.activations()}
            gone = [t for t in source if t not in present and t not in eliminated]
            eliminated.update(dict.fromkeys(gone, name))
            log.debug("%s: %d nodes -> %d", name, len(graph.nodes), len(rewritten.nodes))
        graph = rewritten
    return PassResult(graph, eliminated)


def rewrite_all(graph: Graph, match_and_rewrite: Callable[[Graph], Graph | None]) -> Graph:
    """Apply a rewrite that handles one occurrence (or returns None) until none is left."""
    while (rewritten := match_and_rewrite(graph)) is not None:
        graph = rewritten
    return graph
