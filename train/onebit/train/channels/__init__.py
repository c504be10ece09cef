"""Widening and squeezing: which channels belong together, which carry nothing, and how many fit a budget."""

from onebit.train.channels.fit import fit_channels, representable_width, widened
from onebit.train.channels.groups import ChannelGraph, Group, channel_graph
from onebit.train.channels.removal import constant_channels, keep_channels, squeeze

__all__ = [
    "ChannelGraph", "Group", "channel_graph", "constant_channels", "fit_channels", "keep_channels",
    "representable_width", "squeeze", "widened",
]  # fmt: skip
