"""The report: what it says, and that it is well-formed, self-contained, escaped and computed in Python alone."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import jinja2.nodes
import numpy as np
import pytest

from onebit.core import DType, Graph, Quantization, write_model
from onebit.core.errors import BadInputError
from onebit.core.metadata import ModelMetadata
from onebit.core.ops import Padding
from onebit.simulate import Mismatch, Samples, SimulationResult, simulate
from onebit.simulate.report import Fact, Run, Witness, build_report, render_report, write_report
from onebit.simulate.report.build import elements
from onebit.simulate.report.figures import png
from onebit.simulate.report.html import TEMPLATE
from onebit.simulate.report.predictions import MAX_WRONG, confusion, prediction_groups
from support.nets import INT8_INPUT, Net

CLASSES = ("cat", "dog & cow", "<b>fox</b>", '"hen"')
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Checker(HTMLParser):
    """Collects text, attributes and tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def joined(self) -> str:
        return " ".join(" ".join(self.text).split())


def parse(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    return checker


def tiny_graph() -> Graph:
    """An int8 image classifier with four classes: 8-bit and binary convolution, pool, binary dense layer."""
    net = Net((1, 8, 8, 1), DType.INT8, INT8_INPUT, seed=3).conv(32, quant=Quantization.per_tensor(0.02, 4)).quantize()
    net = net.bpool(2).bconv(32, to=DType.BITS).bconv(4, (4, 4), to=DType.INT8, padding=Padding.VALID).reshape(1, 4)
    return net.graph(ModelMetadata(classes=CLASSES, dataset="animals"))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return tiny_graph()


@pytest.fixture(scope="module")
def samples(graph: Graph) -> Samples:
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
    x = (pixels.astype(np.int16) - 128).astype(np.int8)
    return Samples("animals:test", "d" * 64, x, rng.integers(0, 4, 60), pixels)


@pytest.fixture(scope="module")
def host(graph: Graph, samples: Samples) -> SimulationResult:
    return simulate(write_model(graph), samples, layers=True, reference="numpy")


def counted(result: SimulationResult) -> SimulationResult:
    """As measured on an emulated core: 1,000 instructions for every step, and 17 between the calls."""
    steps = tuple(replace(step, instructions=1000) for step in result.steps)
    total = 1000 * len(steps) + 17
    return replace(result, target="cortex-m4", emulator="unicorn", steps=steps, instructions=total, stack_bytes=224)


@pytest.fixture(scope="module")
def page(graph: Graph, samples: Samples, host: SimulationResult) -> str:
    runs = [Run(host, samples), Run(counted(host), samples)]
    report = build_report(
        graph,
        runs,
        title="animals",
        subtitle="a tiny model",
        source=Witness("PyTorch", "float32", 60, 30),
        source_link="same answer on 59 of 60",
        data_note="made of noise",
        facts=[Fact("training", "none")],
        commands=["onebit simulate animals.tflite --data animals:test"],
    )
    return render_report(report)


def test_the_figures_are_on_the_page(page: str, host: SimulationResult) -> None:
    text = parse(page).joined()
    assert host.ok
    assert host.generated_accuracy is not None
    for expected in (
        f"{100 * host.generated_accuracy:.1f} %",
        f"{2 * elements(host)[0]:,}",
        f"weights {host.weight_bytes:,} B",
        f"arena {host.arena_bytes:,} B",
        "stack 224 B",
        f"{1000 * len(host.steps) + 17:,}",
        "between the calls",
        "50.0 %",
        "30 of 60 right",
        "same answer on 59 of 60",
        "made of noise",
        "NumPy semantics",
        "onebit simulate animals.tflite --data animals:test",
        host.model_sha256,
        host.compiler,
        "Every compared element equals",
    ):
        assert expected in text
    for step in host.steps:
        assert step.kernel in text


def test_every_tensor_was_compared_or_names_its_pass(page: str, host: SimulationResult) -> None:
    text = parse(page).joined()
    assert host.layers is not None
    gone = [layer for layer in host.layers if layer.eliminated_by is not None]
    assert len(gone) == 1
    assert f"eliminated by {gone[0].eliminated_by}" in text
    # and what that pass does, from its own docstring
    assert "LceQuantize to ConvSign" in text
    for layer in host.layers:
        assert layer.tensor in text


def test_the_page_is_well_formed(page: str) -> None:
    checker = parse(page)
    assert (checker.faults, checker.open) == ([], [])
    assert page.startswith("<!DOCTYPE html>")


def test_the_page_loads_nothing(page: str) -> None:
    checker = parse(page)
    assert not {tag for tag, _ in checker.tags} & {"script", "link", "iframe", "object", "base", "form"}
    sources = [value for _, attributes in checker.tags for name, value in attributes.items() if name in ("src", "href")]
    assert sources
    assert all(source is not None and source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?:|url\(|@import|/(?:work|tmp|home)/", page)


def test_texts_are_escaped(page: str) -> None:
    assert "<b>fox" not in page
    assert "&lt;b&gt;fox&lt;/b&gt;" in page
    assert "dog &amp; cow" in page
    assert 'title="&#34;hen&#34;: ' in page


def test_equal_input_gives_equal_pages(page: str, graph: Graph, samples: Samples, host: SimulationResult) -> None:
    once, again = (render_report(build_report(graph, [Run(host, samples)], title="t")) for _ in range(2))
    assert once == again
    assert once != page


def test_a_difference_is_shown_and_its_layer_named(graph: Graph, samples: Samples, host: SimulationResult) -> None:
    mismatch = Mismatch("lcebconv2d_3", "LceBconv2d", [4, 0, 1, 2], 7, -9)
    assert host.layers is not None
    layers = tuple(replace(layer, outputs_equal=max(0, layer.outputs_compared - 1)) for layer in host.layers)
    wrong = replace(host, ok=False, first_mismatch=mismatch, layers=layers, outputs_equal=host.outputs_compared - 1)
    report = build_report(graph, [Run(host, samples), Run(replace(counted(wrong)), samples)], title="t")
    assert not report.verdict.ok
    assert "Cortex-M4" in report.verdict.summary
    assert report.verdict.differences == (
        "Cortex-M4: lcebconv2d_3 (LceBconv2d) differs first, at [4, 0, 1, 2]: expected 7, got -9",
    )
    page = render_report(report)
    assert 'class="verdict failed"' in page
    assert 'class="differs"' in page
    assert report.headlines[1].value.startswith("99.")


def test_one_run_on_the_host_without_layers_or_labels(graph: Graph, samples: Samples) -> None:
    bare = Samples("random:60", "e" * 64, samples.x, None)
    result = simulate(write_model(graph), bare, reference="numpy")
    report = build_report(graph, [Run(result, bare)], title="t")
    assert (report.confusion, report.tensors) == (None, None)
    assert not report.layers.counted
    assert [group.heading for group in report.prediction_groups] == ["Answers"]
    page = render_report(report)
    checker = parse(page)
    assert (checker.faults, checker.open) == ([], [])
    assert "img" not in {tag for tag, _ in checker.tags}
    assert "instr." not in page


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_hold_the_pixels(channels: int, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    data = png(image)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + body),)
        chunks[kind], at = body, at + 12 + size
    assert struct.unpack(">2I5B", chunks[b"IHDR"]) == (7, 5, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(5, 1 + 7 * channels)
    assert not lines[:, 0].any()
    assert np.array_equal(lines[:, 1:].reshape(image.shape), image)


def outputs_for(answers: list[int], classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.int8)[answers] * 100


def test_confusion_counts_labels_against_answers() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    matrix = confusion(labels, outputs_for([0, 0, 1, 1, 0, 2], 4), CLASSES)
    assert matrix is not None
    assert [[cell.count for cell in row.cells] for row in matrix.rows] == [
        ["2", "1", "", ""],
        ["1", "1", "", ""],
        ["", "", "1", ""],
        ["", "", "", ""],
    ]
    assert [row.recall for row in matrix.rows] == ["66.7 %", "50.0 %", "100.0 %", "–"]
    assert matrix.note == "2 of 6 samples off the diagonal"
    assert matrix.rows[0].cells[1].title == "cat taken for dog & cow: 1 of 3"


def test_right_examples_come_from_every_class_and_wrong_ones_are_limited() -> None:
    labels = np.array([2, 1, 1, 0] + [3] * (MAX_WRONG + 5))
    answers = [2, 1, 1, 0] + [0] * (MAX_WRONG + 5)
    data = Samples("x", "", np.zeros((len(labels), 2)), labels)
    right, wrong = prediction_groups(data, outputs_for(answers, 4), CLASSES)
    assert [prediction.index for prediction in right.predictions] == ["#3", "#1", "#0"]
    assert right.note == "3 of 4 right answers"
    assert len(wrong.predictions) == MAX_WRONG
    assert wrong.note == f"{MAX_WRONG} of {MAX_WRONG + 5} wrong answers"
    assert (wrong.predictions[0].predicted, wrong.predictions[0].truth) == (CLASSES[0], CLASSES[3])
    assert [bar.role for bar in wrong.predictions[0].bars] == ["wrong", "other", "other", "truth"]


def test_all_wrong_or_all_right_leaves_no_empty_group() -> None:
    data = Samples("x", "", np.zeros((2, 2)), np.array([0, 1]))
    assert [g.heading for g in prediction_groups(data, outputs_for([0, 1], 4), CLASSES)] == ["Right"]
    assert [g.heading for g in prediction_groups(data, outputs_for([1, 0], 4), CLASSES)] == ["Wrong"]


def test_many_classes_have_neither_matrix_nor_bars() -> None:
    names = tuple(str(i) for i in range(100))
    labels = np.arange(100)
    outputs = outputs_for(list(range(100)), 100)
    assert confusion(labels, outputs, names) is None
    (group,) = prediction_groups(Samples("x", "", np.zeros((100, 2)), labels), outputs, names)
    assert {prediction.bars for prediction in group.predictions} == {()}


def test_the_template_does_not_compute() -> None:
    tree = jinja2.Environment(autoescape=True).parse(TEMPLATE.read_text(encoding="utf-8"))
    nodes = jinja2.nodes
    arithmetic = (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow, nodes.Neg)
    assert [node for kind in (*arithmetic, nodes.Assign, nodes.Filter) for node in tree.find_all(kind)] == []


def test_a_report_is_written_whole_or_not_at_all(
    tmp_path: Path, graph: Graph, samples: Samples, host: SimulationResult
) -> None:
    report = build_report(graph, [Run(host, samples)], title="t")
    write_report(tmp_path / "deep" / "r.html", report)
    assert (tmp_path / "deep" / "r.html").read_text(encoding="utf-8") == render_report(report)
    with pytest.raises(BadInputError, match="is a folder"):
        write_report(tmp_path / "deep", report)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["r.html"]
