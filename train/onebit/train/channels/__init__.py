"""Widening and squeezing: which channels belong together, which carry nothing, and how many fit a budget."""

from onebit.train.channels.fit import fit_channels, judged_groups, narrowest, representable_width, widened
from onebit.train.channels.groups import ChannelGraph, Group, channel_graph
from onebit.train.channels.removal import constant_channels, keep_channels, resize_groups, squeeze
from onebit.train.channels.resized import Resized, widened_model

__all__ = [
    "ChannelGraph", "Group", "Resized", "channel_graph", "constant_channels", "fit_channels", "judged_groups",
    "keep_channels", "narrowest", "representable_width", "resize_groups", "squeeze", "widened", "widened_model",
]  # fmt: skip
