"""docs/pytorch-models.md is what the registries say, and its table what the converter makes."""

from __future__ import annotations

from docs.pytorch_models import OUTPUT, document
from onebit.train.models import ARCHITECTURES


def test_the_page_is_current() -> None:
    text = OUTPUT.read_text("utf-8")
    assert text == document(), "run python -m docs.pytorch_models"
    assert all(f"| `{name}` |" in text for name in ARCHITECTURES)
