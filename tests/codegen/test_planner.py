"""The memory planner: values that live at the same time never overlap, and the arena against its lower bound."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit.codegen import compile_graph, find_target
from onebit.codegen.planner import ALIGNMENT, Lifetime, Plan, lower_bound, plan_memory
from onebit.core import DType
from onebit.core.ops import Padding
from support.net_table import NETS, graph_of
from support.nets import INT8_INPUT, Net


def check(values: list[Lifetime]) -> Plan:
    """Everything that any plan owes."""
    plan = plan_memory(values)
    assert set(plan.offsets) == {v.name for v in values}
    for v in values:
        assert plan.offsets[v.name] % ALIGNMENT == 0
        assert 0 <= plan.offsets[v.name] <= plan.offsets[v.name] + v.size <= plan.arena_bytes
    for a, b in itertools.combinations(values, 2):
        if a.first <= b.last and b.first <= a.last:
            start_a, start_b = plan.offsets[a.name], plan.offsets[b.name]
            assert start_a + a.size <= start_b or start_b + b.size <= start_a or 0 in (a.size, b.size), (a, b)
    steps = range(max((v.last for v in values), default=0) + 1)
    live = max((sum(v.aligned_size for v in values if v.first <= s <= v.last) for s in steps), default=0)
    assert plan.lower_bound_bytes == live <= plan.arena_bytes <= sum(v.aligned_size for v in values)
    return plan


def chain(sizes: list[int]) -> list[Lifetime]:
    """Each value is read by the next step only."""
    return [Lifetime(f"v{i}", size, i, i + 1) for i, size in enumerate(sizes)]


@pytest.mark.parametrize(
    "sizes", [[8], [100, 4], [4, 100, 4], [64, 32, 16, 8], [8, 16, 32, 64], [40, 8, 40, 8, 40], [12] * 9], ids=str
)
def test_a_chain_needs_no_more_than_the_lower_bound(sizes: list[int]) -> None:
    plan = check(chain(sizes))
    assert plan.arena_bytes == plan.lower_bound_bytes


def test_a_value_that_skips_steps_like_a_residual() -> None:
    values = [Lifetime("skip", 64, 0, 5), *(Lifetime(f"v{i}", 32, i, i + 1) for i in range(1, 5))]
    plan = check(values)
    assert plan.arena_bytes == plan.lower_bound_bytes == 64 + 32 + 32


def test_two_residuals_that_overlap() -> None:
    values = [Lifetime("a", 40, 0, 3), Lifetime("b", 24, 1, 4), Lifetime("c", 8, 2, 5), Lifetime("d", 40, 4, 5)]
    plan = check(values)
    assert plan.arena_bytes == plan.lower_bound_bytes


def test_scratch_lives_for_one_step() -> None:
    values = [*chain([32, 32, 32]), *(Lifetime(f"scratch of step {i}", 100, i, i) for i in range(3))]
    plan = check(values)
    assert plan.arena_bytes == plan.lower_bound_bytes == 164


def test_nothing_to_plan() -> None:
    assert plan_memory([]) == Plan({}, 0, 0)
    assert lower_bound([]) == 0


def test_values_without_bytes() -> None:
    plan = check([Lifetime("empty", 0, 0, 3), Lifetime("a", 8, 0, 1), Lifetime("none", 0, 1, 1)])
    assert plan.arena_bytes == 8


def test_sizes_are_rounded_up_to_words() -> None:
    assert Lifetime("a", 1, 0, 0).aligned_size == 4
    plan = check([Lifetime("a", 1, 0, 1), Lifetime("b", 5, 0, 1), Lifetime("c", 4, 0, 1)])
    assert plan.arena_bytes == plan.lower_bound_bytes == 4 + 8 + 4


def test_lives_that_only_touch_do_not_overlap() -> None:
    a, b, c = Lifetime("a", 8, 0, 1), Lifetime("b", 8, 2, 3), Lifetime("c", 8, 1, 2)
    assert not a.overlaps(b) and not b.overlaps(a)
    assert a.overlaps(c) and c.overlaps(b)
    assert check([a, b]).arena_bytes == 8


def _lifetime(number: int, size: int, first: int, length: int) -> Lifetime:
    return Lifetime(f"v{number}", size, first, first + length)


TRIPLES = st.tuples(st.integers(0, 200), st.integers(0, 20), st.integers(0, 12))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(TRIPLES, max_size=24))
def test_random_lives_never_overlap(triples: list[tuple[int, int, int]]) -> None:
    values = [_lifetime(i, *triple) for i, triple in enumerate(triples)]
    plan = check(values)
    # the plan depends on the values, not on their order
    assert plan_memory(values[::-1]) == plan


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=20))
def test_random_chains_meet_the_lower_bound(sizes: list[int]) -> None:
    plan = check(chain(sizes))
    assert plan.arena_bytes == plan.lower_bound_bytes


@pytest.mark.parametrize("name", NETS)
def test_the_arena_of_every_net_of_the_table(name: str) -> None:
    """What is in the arena at the same step does not overlap, by the steps of the program itself."""
    program = compile_graph(graph_of(name), find_target("cortex-m4"))
    offsets = program.plan.offsets
    last = {step.index: step.index for step in program.steps}
    for step in program.steps:
        for buffer in step.inputs:
            for producer in program.steps:
                if producer.output is buffer:
                    last[producer.index] = step.index
    for now in program.steps:
        live = [(s.output.name, s.output.nbytes) for s in program.steps if s.index <= now.index <= last[s.index]]
        live = [(name, size) for name, size in live if name != "output"]
        if now.scratch is not None:
            live.append((f"scratch of step {now.index}", now.scratch.bytes))
        places = sorted((offsets[name], offsets[name] + size) for name, size in live)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))
        assert not places or places[-1][1] <= program.arena_bytes
    # not every set of lifetimes can meet the bound
    assert program.plan.lower_bound_bytes <= program.arena_bytes <= 1.05 * program.plan.lower_bound_bytes


def test_a_digits_net_meets_the_lower_bound() -> None:
    net = Net((1, 28, 28, 1), DType.INT8, INT8_INPUT).conv(16, (5, 5)).pool().quantize()
    net.bconv(32, to=DType.BITS).bpool().bconv(64, to=DType.BITS).bpool(3, padding=Padding.SAME)
    program = compile_graph(net.bconv(10, (3, 3), padding=Padding.VALID, to=DType.INT8).graph(), find_target("host"))
    assert program.arena_bytes == program.plan.lower_bound_bytes
