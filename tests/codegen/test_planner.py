"""The memory planner: blocks whose values live at the same time never overlap, and the arena against its bound."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebit.codegen import compile_graph, find_target
from onebit.codegen.planner import ALIGNMENT, Block, Lifetime, Member, Plan, lower_bound, plan_memory
from onebit.core import DType
from onebit.core.ops import Padding
from support.nets import INT8_INPUT, Net


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def check(values: list[Lifetime]) -> Plan:
    """Everything that any plan of values on their own owes."""
    plan = plan_memory([Block.of(v) for v in values])
    assert set(plan.offsets) == {v.name for v in values}
    for v in values:
        assert plan.offsets[v.name] % ALIGNMENT == 0
        assert 0 <= plan.offsets[v.name] <= plan.offsets[v.name] + v.size <= plan.arena_bytes
    check_apart(values, plan)
    steps = range(max((v.last for v in values), default=0) + 1)
    live = max((sum(aligned(v.size) for v in values if v.first <= s <= v.last) for s in steps), default=0)
    assert plan.lower_bound_bytes == live <= plan.arena_bytes <= sum(aligned(v.size) for v in values)
    return plan


def check_apart(values: list[Lifetime], plan: Plan) -> None:
    """Values that live at the same time share no byte."""
    for a, b in itertools.combinations(values, 2):
        if a.first <= b.last and b.first <= a.last:
            start_a, start_b = plan.offsets[a.name], plan.offsets[b.name]
            assert start_a + a.size <= start_b or start_b + b.size <= start_a or 0 in (a.size, b.size), (a, b)


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
    assert plan_memory([Block.of(v) for v in values[::-1]]) == plan


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(st.lists(st.tuples(TRIPLES, st.integers(0, 90)), min_size=1, max_size=4), max_size=8))
def test_values_of_a_block_keep_their_distances_and_other_blocks_keep_away(blocks: list[list[Any]]) -> None:
    made = [
        Block(tuple(Member(4 * at, _lifetime(10 * i + j, *triple)) for j, (triple, at) in enumerate(block)))
        for i, block in enumerate(blocks)
    ]
    plan = plan_memory(made)
    for block in made:
        bases = {plan.offsets[m.value.name] - m.offset for m in block.members}
        assert len(bases) == 1 and min(bases) >= 0 and min(bases) % ALIGNMENT == 0
        assert all(plan.offsets[m.value.name] + m.value.size <= plan.arena_bytes for m in block.members)
    for a, b in itertools.combinations(made, 2):
        for pair in itertools.product(a.members, b.members):
            check_apart([m.value for m in pair], plan)
    assert plan.lower_bound_bytes <= plan.arena_bytes


def test_a_value_in_the_place_of_another_counts_once() -> None:
    """A block of 16 bytes, then 8 of them for something else: the bound and the plan see both."""
    operand, result = Lifetime("operand", 16, 0, 2), Lifetime("result", 8, 2, 4)
    block = Block((Member(0, operand), Member(0, result)))
    assert [block.live_bytes(step) for step in range(5)] == [16, 16, 16, 8, 8]
    plan = plan_memory([block, Block.of(Lifetime("late", 8, 3, 4))])
    assert plan == Plan({"operand": 0, "result": 0, "late": 8}, 16, 16)


def test_parts_of_a_value_count_once() -> None:
    block = Block(
        (Member(0, Lifetime("a", 8, 0, 2)), Member(8, Lifetime("b", 8, 1, 2)), Member(0, Lifetime("c", 16, 2, 3)))
    )
    assert [block.live_bytes(step) for step in range(4)] == [8, 16, 16, 16]


def test_a_word_belongs_to_one_block() -> None:
    """Values at odd bytes of a block: what another block uses starts at the next word."""
    block = Block((Member(0, Lifetime("a", 3, 0, 0)), Member(3, Lifetime("b", 3, 0, 1))))
    assert [block.live_bytes(step) for step in range(2)] == [8, 8]
    plan = plan_memory([block, Block.of(Lifetime("other", 4, 1, 1))])
    assert plan == Plan({"a": 0, "b": 3, "other": 8}, 12, 12)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=20))
def test_random_chains_meet_the_lower_bound(sizes: list[int]) -> None:
    plan = check(chain(sizes))
    assert plan.arena_bytes == plan.lower_bound_bytes


def test_a_digits_net_meets_the_lower_bound() -> None:
    net = Net((1, 28, 28, 1), DType.INT8, INT8_INPUT).conv(16, (5, 5)).pool().quantize()
    net.bconv(32, to=DType.BITS).bpool().bconv(64, to=DType.BITS).bpool(3, padding=Padding.SAME)
    program = compile_graph(net.bconv(10, (3, 3), padding=Padding.VALID, to=DType.INT8).graph(), find_target("host"))
    assert program.arena_bytes == program.plan.lower_bound_bytes
