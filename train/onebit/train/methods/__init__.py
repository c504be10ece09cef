"""Training methods by name."""

from __future__ import annotations

from onebit.train.methods.base import Attached, Method, Step

__all__ = ["Attached", "Method", "Step"]
