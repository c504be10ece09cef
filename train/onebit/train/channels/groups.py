"""Which layers of a network write and read the same channels.

The network is traced with torch.fx. Every convolution or dense layer starts a group of channels; batch norm,
activations and pools keep it; an addition joins two groups into one (a residual stream). What a group meets that is not
known here makes it fixed: its channels can be neither gated nor removed. So do convolutions with groups, a layer that
is called twice, and the network's input and output. `RepeatChannels` starts a group that depends on the one it repeats,
its base: channel j repeats channel j % C. Any other concatenation is not known here.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import fx, nn

from onebit.core.errors import BadInputError
from onebit.train.layers import ChannelPReLU, ChannelScale, ChannelShift, RepeatChannels, RPReLU, RSign

LINEAR = (nn.Conv2d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
PER_CHANNEL = (ChannelPReLU, ChannelScale, ChannelShift, RPReLU, RSign)
POINTWISE = (nn.Hardtanh, nn.Identity, nn.Dropout, nn.Dropout2d, nn.ReLU, nn.ReLU6)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
ADDITIONS = (operator.add, torch.add)


class Tracer(fx.Tracer):
    """Layers with their own rule stay whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return (
            hasattr(m, "onebit_kind")
            or isinstance(m, (*PER_CHANNEL, RepeatChannels))
            or super().is_leaf_module(m, module_qualified_name)
        )


@dataclass
class Group:
    """Channels that exist together or not at all.

    `writers` and `readers` are convolutions and dense layers, `inside` the layers with a value per channel, `repeats`
    the layers that make these channels by repeating those of the group's base.
    """

    size: int
    fixed: bool = False
    writers: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    repeats: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """That of the first writer, which every free group has."""
        return self.writers[0]

    def norms(self, net: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
        """The group's batch norms that have a factor per channel."""
        found = [net.get_submodule(name) for name in self.inside]
        return [norm for norm in found if isinstance(norm, NORMS) and norm.affine]


class ChannelGraph:
    """The groups of a network, in the order of their first writer; `group_of` is that of a node's value."""

    def __init__(self, graph: fx.Graph, net: nn.Module) -> None:
        self.graph = graph
        self.net = net
        self._parent: dict[int, int] = {}
        self._made: list[Group] = []
        self._index: dict[fx.Node, int] = {}
        self._called: set[str] = set()
        self._repeated: list[tuple[int, int]] = []  # (a group, the group that its channels repeat)
        for node in graph.nodes:
            self._visit(node)
        self.groups = [self._made[i] for i in range(len(self._made)) if self._root(i) == i]
        self._bases: dict[str, Group] = {}
        self._resolve_repeats()

    def group_of(self, node: fx.Node) -> Group:
        """The group of a node's value."""
        return self._made[self._root(self._index[node])]

    def free(self) -> list[Group]:
        """Groups whose channels may change in number; a base stands before what repeats it."""
        return [group for group in self.groups if not group.fixed]

    def base_of(self, group: Group) -> Group | None:
        """The group whose channels a free `group` repeats."""
        return self._bases.get(group.name)

    def copies(self, base: Group) -> list[Group]:
        """The free groups that repeat the channels of `base`."""
        return [group for group in self.free() if self.base_of(group) is base]

    def calls(self) -> Iterator[tuple[fx.Node, nn.Module]]:
        """Module calls with their modules, in execution order."""
        for node in self.graph.nodes:
            if node.op == "call_module":
                yield node, self.net.get_submodule(str(node.target))

    def _resolve_repeats(self) -> None:
        """Fixes groups whose base is not one group before them, without writers, and the bases of fixed groups."""
        pairs = [(self._root(copy), self._root(base)) for copy, base in self._repeated]
        for copy, base in pairs:
            group = self._made[copy]
            if not group.writers or base >= copy or any(b != base for c, b in pairs if c == copy):
                group.fixed = True
        for copy, base in sorted(pairs, reverse=True):
            if self._made[copy].fixed:
                self._made[base].fixed = True
            else:
                self._bases[self._made[copy].name] = self._made[base]

    def _root(self, i: int) -> int:
        while self._parent[i] != i:
            i = self._parent[i]
        return i

    def _new(self, node: fx.Node, size: int, *, fixed: bool = False) -> Group:
        i = len(self._made)
        self._parent[i] = i
        self._made.append(Group(size, fixed))
        self._index[node] = i
        return self._made[i]

    def _same(self, node: fx.Node, source: fx.Node) -> Group:
        self._index[node] = self._index[source]
        return self.group_of(node)

    def _visit(self, node: fx.Node) -> None:
        sources = [arg for arg in node.args if isinstance(arg, fx.Node)]
        if node.op == "call_module" and len(sources) == 1:
            self._module(node, self.net.get_submodule(str(node.target)), sources[0])
        elif node.op == "call_function" and node.target in ADDITIONS and len(sources) == 2:
            self._join(node, *sources)
        else:
            for source in [*sources, *(n for n in node.all_input_nodes if n not in sources)]:
                self.group_of(source).fixed = True
            self._new(node, 0, fixed=True)

    def _module(self, node: fx.Node, module: nn.Module, source: fx.Node) -> None:
        name = str(node.target)
        again = name in self._called
        self._called.add(name)
        if again:
            touched = [g for g in self._made if name in (*g.writers, *g.readers, *g.inside)]
            for group in (*touched, self.group_of(source)):
                group.fixed = True
            self._new(node, 0, fixed=True)
        elif isinstance(module, LINEAR):
            self.group_of(source).readers.append(name)
            split = isinstance(module, nn.Conv2d) and module.groups != 1
            if split:
                self.group_of(source).fixed = True
            self._new(node, len(module.weight), fixed=split).writers.append(name)
        elif isinstance(module, (*NORMS, *PER_CHANNEL)):
            group = self._same(node, source)
            group.inside.append(name)
            # a batch norm behind a flattened map has a value per pixel and channel
            group.fixed = group.fixed or getattr(module, "num_features", group.size) != group.size
        elif isinstance(module, (*POINTWISE, *POOLS, nn.Flatten)):
            self._same(node, source)
        elif isinstance(module, RepeatChannels):
            base = self._index[source]
            size = self.group_of(source).size
            self._new(node, module.times * size + module.rest, fixed=module.rest > 0).repeats.append(name)
            self._repeated.append((self._index[node], base))
        else:
            self.group_of(source).fixed = True
            self._new(node, 0, fixed=True)

    def _join(self, node: fx.Node, left: fx.Node, right: fx.Node) -> None:
        a, b = sorted((self._root(self._index[left]), self._root(self._index[right])))
        if a != b:
            kept, gone = self._made[a], self._made[b]
            kept.fixed = kept.fixed or gone.fixed or kept.size != gone.size
            for mine, theirs in (
                (kept.writers, gone.writers),
                (kept.readers, gone.readers),
                (kept.inside, gone.inside),
                (kept.repeats, gone.repeats),
            ):
                mine.extend(theirs)
            self._parent[b] = a
        self._index[node] = a


def channel_graph(net: nn.Module) -> ChannelGraph:
    """The channel groups of `net`; BadInputError if torch.fx cannot trace it."""
    try:
        graph = Tracer().trace(net)
    except Exception as error:
        raise BadInputError(
            f"torch.fx cannot trace the network: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            where=type(net).__name__,
            fix="forward() must not branch on the values of tensors",
        ) from error
    return ChannelGraph(graph, net)


def sources(node: fx.Node) -> list[fx.Node]:
    """The nodes a node reads as positional arguments."""
    return [arg for arg in node.args if isinstance(arg, fx.Node)]
