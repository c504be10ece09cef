"""`simulate`: does the generated C compute, on this target, what the model computes?"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from onebit.codegen import Generated, Program, find_target, generate
from onebit.codegen.generate import model_content
from onebit.codegen.options import Arena, Optimize
from onebit.codegen.targets import TARGETS
from onebit.core import read_model
from onebit.core.errors import BadInputError, VerificationError
from onebit.core.files import atomic_write_bytes, check_place_for_file
from onebit.core.graph import Array, Graph
from onebit.core.metadata import ModelMetadata, Preprocessing
from onebit.core.oracle import Oracle
from onebit.core.rounding import Rounding
from onebit.simulate import harness
from onebit.simulate.compare import (
    Comparison,
    compare_tensor,
    decode_buffer,
    first_unequal,
    flippable_signs,
    inexact_tensors,
    split_values,
)
from onebit.simulate.emulators.common import RunResult
from onebit.simulate.inputs import Samples, load_samples
from onebit.simulate.oracle import find_oracle
from onebit.simulate.result import LayerResult, Mismatch, SimulationResult, StepCost
from onebit.simulate.toolchain import Compiler, Preference, find_compiler

#: samples per run of oracle and generated code: bounds memory where every layer of every sample is kept
CHUNK = 250
#: samples with unequal outputs that are run again layer by layer to find the first layer that differs
LOCATE = 8

Progress = Callable[[int, int], None]


def simulate(
    model: Path | str | bytes,
    data: str | Samples,
    *,
    target: str = "host",
    data_dir: Path | None = None,
    limit: int | None = None,
    layers: bool = False,
    dump: Path | None = None,
    sources: Path | None = None,
    compiler: Preference = "auto",
    emulator: harness.EmulatorChoice = "auto",
    optimize: Optimize = "speed",
    arena: Arena = "static",
    reference: str | Oracle = "auto",
    rounding: Rounding = Rounding.LITERT,
    preprocessing: Preprocessing | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> SimulationResult:
    """Generate, compile and run `model` for `target` on `data`, and compare with the reference.

    `data` is ``random:N``, a data set name with optional ``:split``, an .npz file, or loaded samples. With `layers`
    every tensor of the model is compared, not only its output. `sources` takes a folder that `generate` wrote (and
    someone may have changed) instead of fresh sources; whether their arena is the caller's, their header says.
    `rounding` chooses the arithmetic of the built-in operators, and with it the interpreter that is the reference
    (`find_oracle`). `preprocessing` overrides what the model carries. `dump` receives inputs `x`, `reference` and
    `generated` as .npz.

    The verdict `ok` is True if every compared element is equal under its class, or lies in a sample in which a sign
    next to 0 flipped behind a float operator of undefined summation order (`sign_flips`).

    Raises BadInputError, ToolMissingError, or VerificationError where the code does not compile or crashes.
    """
    content = model_content(model)
    _check_target(target)
    if dump is not None:
        check_place_for_file(dump)
    origin = content if isinstance(model, bytes) else Path(model)
    source = read_model(origin, rounding)
    graph = source if preprocessing is None else replace(source, metadata=ModelMetadata(preprocessing))
    oracle = find_oracle(reference, rounding) if isinstance(reference, str) else reference
    if not isinstance(data, Samples):
        data = load_samples(data, graph, data_dir=data_dir, download=download, limit=limit)
    with tempfile.TemporaryDirectory(prefix="onebit-simulate-") as folder:
        generated = generate(origin, target, Path(folder) / "sources", optimize=optimize, arena=arena, graph=source)
        chosen = find_compiler(generated.program.target, compiler)
        place = _sources(sources, generated.name, content, target, rounding) or generated.out
        code = _Code(generated, place, chosen, Path(folder) / "build", emulator, optimize)
        run = _run(code, content, oracle, data, layers, progress)
    if dump is not None:
        _dump(dump, data, run)
    name = "model" if isinstance(model, bytes) else str(model)
    return _result(name, content, code, oracle, data, run, layers)


def _check_target(name: str) -> None:
    if not find_target(name).simulated:
        able = ", ".join(target.name for target in TARGETS.values() if target.simulated)
        raise BadInputError(f"onebit cannot run {name} code on this computer", where="--target", fix=f"use {able}")


def _sources(sources: Path | None, name: str, content: bytes, target: str, rounding: Rounding) -> Path | None:
    """The folder to compile instead of a fresh one, which must be of this model, target and rounding by its banner."""
    if sources is None:
        return None
    file, fix = sources / f"{name}.c", "give a folder that `onebit generate` wrote for this model, target and rounding"
    if not file.is_file():
        raise BadInputError(f"there is no {name}.c", where=str(sources), fix=fix)
    banner = file.read_text("utf-8", "replace")[:600]
    if hashlib.sha256(content).hexdigest() not in banner:
        raise BadInputError(f"{name}.c was generated from another model", where=str(sources), fix=fix)
    if f"--target {target} " not in banner:
        raise BadInputError(f"{name}.c was not generated for {target}", where=str(sources), fix=fix)
    if f"--rounding {rounding.value} " not in banner:
        raise BadInputError(f"{name}.c was not generated with --rounding {rounding.value}", where=str(sources), fix=fix)
    return sources


class _Code:
    """The generated C of one model: a release build, and on demand a build that reports every step's output."""

    def __init__(
        self, generated: Generated, sources: Path, compiler: Compiler, work: Path,
        emulator: harness.EmulatorChoice, optimize: Optimize,
    ) -> None:  # fmt: skip
        self.program = generated.program
        self.compiler = compiler
        self._generated, self._sources, self._work = generated, sources, work
        self._emulator, self._optimize = emulator, optimize
        self.release = self._build(None)
        self._layer_build: harness.Build | None = None

    def _build(self, release: harness.Build | None) -> harness.Build:
        source = self.program.source
        return harness.build(
            self._sources, self._generated.name, self.compiler, self._work, input_bytes=source.input.nbytes,
            output_bytes=source.output.nbytes, layers=release is not None, release=release,
            files=self._generated.files, optimize=self._optimize,
        )  # fmt: skip

    def run(self, x: Array) -> RunResult:
        """Outputs, instruction counts and stack of the release build."""
        return harness.run(self.release, np.ascontiguousarray(x).tobytes(), emulator=self._emulator)

    def run_layers(self, x: Array) -> dict[str, Array]:
        """Every value that a step completes, uint8 ``[N, bytes]`` each, by the name of its tensor."""
        if self._layer_build is None:
            self._layer_build = self._build(self.release)
        result = harness.run(self._layer_build, np.ascontiguousarray(x).tobytes(), emulator=self._emulator, count=False)
        assert result.layers is not None
        flat = np.frombuffer(result.layers, np.uint8).reshape(len(x), -1)
        return split_values(flat, self.program.buffers())


@dataclass
class _Run:
    """What running all samples gave: comparisons by tensor, outputs, counts."""

    comparisons: dict[str, Comparison] = field(default_factory=dict)
    reference: list[Array] = field(default_factory=list)
    generated: list[Array] = field(default_factory=list)
    counts: list[int] | None = None
    stack_bytes: int | None = None
    emulator: str | None = None

    def add(self, comparison: Comparison, samples: Array) -> None:
        """Add a comparison whose sample i is sample ``samples[i]`` of the run."""
        name, numbered = comparison.tensor.name, comparison.renumbered(samples)
        self.comparisons[name] = self.comparisons[name].merged(numbered) if name in self.comparisons else numbered


def _run(
    code: _Code, content: bytes, oracle: Oracle, samples: Samples, layers: bool, progress: Progress | None
) -> _Run:
    run, graph = _Run(), code.program.source
    count = len(samples.x)
    for start in range(0, count, CHUNK):
        x = samples.x[start : start + CHUNK]
        result = code.run(x)
        got = np.frombuffer(result.outputs, graph.output.dtype.numpy.newbyteorder("<"))
        got = got.reshape(len(x), *graph.output.stored_shape[1:])
        expected = _compare_chunk(run, code, content, oracle, x, got, start, layers)
        run.reference.append(expected)
        run.generated.append(got)
        if result.counts is not None:
            run.counts = [a + b for a, b in zip(run.counts or [0] * len(result.counts), result.counts, strict=True)]
        run.stack_bytes = max(run.stack_bytes or 0, result.stack_bytes)
        run.emulator = result.emulator
        _check_stack(result.stack_bytes, code.release)
        if progress is not None:
            progress(min(start + CHUNK, count), count)
    return run


def _check_stack(used: int, build: harness.Build) -> None:
    bound = build.stack.bytes
    if bound is not None and used > bound:
        raise VerificationError(
            f"an inference used {used} bytes of stack, its functions need at most {bound}", where=build.model_name
        )


def _compare_chunk(
    run: _Run, code: _Code, content: bytes, oracle: Oracle, x: Array, got: Array, start: int, layers: bool
) -> Array:
    """Compare one chunk; with unequal outputs, also its first failing samples layer by layer. Returns the reference."""
    graph = code.program.source
    output = graph.outputs[0]
    names = _compared_tensors(code.program) if layers else [output]
    if output not in names:
        names.append(output)
    expected = dict(zip(names, oracle.run(content, x, names), strict=True))
    final = _compare(graph, output, expected[output], got)
    numbers = np.arange(start, start + len(x))
    run.add(final, numbers)
    if layers:
        for comparison in _compare_layers(code, x, expected):
            run.add(comparison, numbers)
    elif final.first is not None and (len(run.comparisons) == 1 or flippable_signs(graph)):
        # a few samples tell the first layer that differs, but whether a flipped sign excuses a sample each must tell
        failing = final.unequal_samples if flippable_signs(graph) else final.unequal_samples[:LOCATE]
        names = _compared_tensors(code.program)
        values = dict(zip(names, oracle.run(content, x[failing], names), strict=True))
        for comparison in _compare_layers(code, x[failing], values):
            run.add(comparison, numbers[failing])
    return expected[output]


def _compared_tensors(program: Program) -> list[str]:
    """The activations of the source graph that some buffer of the program holds, in execution order."""
    return [t.name for t in program.source.activations() if program.step_of(t.name) is not None]


def _compare_layers(code: _Code, x: Array, expected: dict[str, Array]) -> list[Comparison]:
    """All tensors but the output, which the release build has already answered for, from the layer build."""
    program = code.program
    raw = code.run_layers(x)
    buffers = {buffer.tensor.name: buffer for buffer in program.buffers()}
    found = []
    for name in _compared_tensors(program):
        if name != program.source.outputs[0]:
            value = decode_buffer(raw[name], buffers[name])
            found.append(_compare(program.source, name, expected[name], value))
    return found


def _compare(graph: Graph, name: str, expected: Array, got: Array) -> Comparison:
    producer = graph.producer(name)
    assert producer is not None
    tensor = graph.tensors[name]
    shape = (len(expected), *tensor.stored_shape[1:])
    return compare_tensor(
        tensor, producer.op.name, expected.reshape(shape), got.reshape(shape), inexact=name in inexact_tensors(graph)
    )


def _result(
    name: str, content: bytes, code: _Code, oracle: Oracle, samples: Samples, run: _Run, layers: bool
) -> SimulationResult:
    program, graph = code.program, code.program.source
    count = len(samples.x)
    ordered = [run.comparisons[t.name] for t in graph.activations() if t.name in run.comparisons]
    output = run.comparisons[graph.outputs[0]]
    reference, generated = np.concatenate(run.reference), np.concatenate(run.generated)
    flips, flipped = _sign_flips(graph, ordered)
    unequal = np.unique(np.concatenate([c.unequal_samples for c in ordered]))
    instructions = None if run.counts is None else [round(c / count) for c in run.counts]
    return SimulationResult(
        model=name,
        model_sha256=hashlib.sha256(content).hexdigest(),
        dataset=samples.name,
        dataset_sha256=samples.sha256,
        samples=count,
        target=program.target.name,
        rounding=graph.rounding.value,
        compiler=f"{code.compiler.name} {code.compiler.version}",
        emulator=run.emulator if program.target.emulated else None,
        engine=oracle.engine,
        reference_accuracy=_accuracy(reference, samples.y),
        generated_accuracy=_accuracy(generated, samples.y),
        outputs_compared=output.compared,
        outputs_equal=output.equal,
        outputs_bit_identical=output.bit_identical,
        sign_flips=flips,
        max_abs_diff=output.max_abs_diff,
        first_mismatch=_mismatch(first_unequal(ordered)),
        arena_bytes=program.arena_bytes,
        arena_lower_bound_bytes=program.plan.lower_bound_bytes,
        stack_bytes=run.stack_bytes,
        stack_bound_bytes=code.release.stack.bytes,
        stack_bound_unknown=code.release.stack.unknown,
        weight_bytes=program.weight_bytes,
        code_bytes=code.release.code_bytes,
        instructions=None if run.counts is None else round(sum(run.counts[1:]) / count),
        ok=len(np.setdiff1d(unequal, flipped)) == 0,
        steps=_step_costs(program, instructions),
        layers=_layer_results(program, run, instructions) if layers else None,
        reference_outputs=reference,
        generated_outputs=generated,
    )  # fmt: skip


def _mismatch(comparison: Comparison | None) -> Mismatch | None:
    if comparison is None or comparison.first is None:
        return None
    return Mismatch(comparison.tensor.name, comparison.op, *comparison.first)


def _sign_flips(graph: Graph, comparisons: Sequence[Comparison]) -> tuple[int, Array]:
    """Signs that differ behind float operators of undefined summation order, and the samples that have one."""
    flippable = flippable_signs(graph)
    found = [c for c in comparisons if c.tensor.name in flippable]
    flipped = [c.unequal_samples for c in found]
    return sum(c.compared - c.equal for c in found), np.concatenate([np.zeros(0, np.int64), *flipped])


def _step_costs(program: Program, slots: list[int] | None) -> tuple[StepCost, ...]:
    return tuple(
        StepCost(
            index=step.index,
            kernel=step.kernel.function,
            op=step.node.op.name,
            tensors=step.tensors,
            binary_macs=step.macs[0],
            other_macs=step.macs[1],
            instructions=None if slots is None else slots[harness.FIRST_LAYER_SLOT + step.index],
        )
        for step in program.steps
    )


def _layer_results(program: Program, run: _Run, slots: list[int] | None) -> tuple[LayerResult, ...]:
    results = []
    for index, node in enumerate(program.source.nodes):
        name, op = node.output, node.op.name
        step = program.step_of(name)
        if step is None:
            by = program.eliminated.get(name, "alias_of_input")
            results.append(LayerResult(index, op, name, eliminated_by=by))
            continue
        c = run.comparisons[name]
        # tensors that share a buffer share its step; the instructions stand with the one the kernel computes
        counts = slots is not None and step.node.output == name
        instructions = slots[harness.FIRST_LAYER_SLOT + step.index] if counts and slots is not None else None
        results.append(LayerResult(index, op, name, step.kernel.function, c.compared, c.equal, instructions))
    return tuple(results)


def _accuracy(outputs: Array, labels: Array | None) -> float | None:
    if labels is None:
        return None
    return float(np.mean(outputs.reshape(len(outputs), -1).argmax(axis=1) == labels))


def _dump(path: Path, samples: Samples, run: _Run) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=samples.x, reference=np.concatenate(run.reference), generated=np.concatenate(run.generated))
    atomic_write_bytes(path, buffer.getvalue())
