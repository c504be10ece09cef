"""What the template sees: texts and lengths ready to be printed. The template computes nothing.

Lengths of bars are texts such as ``42.3``: per cent of the bar's box.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Headline:
    """One large figure: the value, what it is, and a line below."""

    value: str
    label: str
    detail: str


@dataclass(frozen=True)
class WitnessCard:
    """One link of the chain that computed the model: `link` ties it to the one before."""

    name: str
    detail: str
    accuracy: str
    counted: str
    link: str
    link_holds: bool


@dataclass(frozen=True)
class OutputBar:
    """One output of the model for one sample. `role` is ``right``, ``wrong``, ``truth`` or ``other``."""

    label: str
    title: str
    height: str
    role: str


@dataclass(frozen=True)
class Prediction:
    """One sample: picture as a data URI (None if it is no picture), label and answer, outputs."""

    index: str
    picture: str | None
    predicted: str
    truth: str | None
    right: bool
    bars: tuple[OutputBar, ...]


@dataclass(frozen=True)
class PredictionGroup:
    """Samples under one heading."""

    heading: str
    note: str
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class ConfusionCell:
    """How often a label got an answer; `heat` is 0 to 1, `tone` its classes of style."""

    count: str
    title: str
    heat: str
    tone: str


@dataclass(frozen=True)
class ConfusionRow:
    """All answers to one label."""

    label: str
    cells: tuple[ConfusionCell, ...]
    recall: str


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix: a row per label, a column per answer."""

    columns: tuple[str, ...]
    rows: tuple[ConfusionRow, ...]
    note: str


@dataclass(frozen=True)
class LayerRow:
    """One kernel call. `kind` is ``binary``, ``other`` or ``none``, by its multiply-accumulates."""

    index: str
    kernel: str
    tensor: str
    kind: str
    binary_macs: str
    other_macs: str
    instructions: str
    share: str
    bar: str
    macs_per_instruction: str


@dataclass(frozen=True)
class LayerTable:
    """Kernel calls in order, and their sum."""

    note: str
    counted: bool
    rows: tuple[LayerRow, ...]
    total: LayerRow


@dataclass(frozen=True)
class MemoryPart:
    """One piece of a memory: `role` chooses the colour."""

    label: str
    size: str
    bar: str
    role: str


@dataclass(frozen=True)
class MemoryBar:
    """One memory of one target, in pieces that fill the bar."""

    name: str
    total: str
    parts: tuple[MemoryPart, ...]
    note: str


@dataclass(frozen=True)
class MemoryCard:
    """Flash and RAM on one target."""

    target: str
    compiler: str
    bars: tuple[MemoryBar, ...]


@dataclass(frozen=True)
class TensorRow:
    """One tensor of the model: what was compared per target, or who eliminated it."""

    index: str
    op: str
    tensor: str
    compared: tuple[str, ...]
    all_equal: bool
    eliminated_by: str | None


@dataclass(frozen=True)
class TensorTable:
    """All tensors of the model; `eliminations` explains the passes that are named in it."""

    columns: tuple[str, ...]
    rows: tuple[TensorRow, ...]
    eliminations: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Verdict:
    """Whether everything agreed: one sentence, and one line for every first difference."""

    ok: bool
    summary: str
    differences: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """One line of provenance; `code` is printed in fixed width."""

    name: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Report:
    """The whole page."""

    title: str
    subtitle: str
    verdict: Verdict
    headlines: tuple[Headline, ...]
    chain: tuple[WitnessCard, ...]
    data_note: str
    prediction_groups: tuple[PredictionGroup, ...]
    confusion: Confusion | None
    layers: LayerTable
    memory: tuple[MemoryCard, ...]
    tensors: TensorTable | None
    facts: tuple[Fact, ...]
    commands: tuple[str, ...]
    generator: str
