"""Forbidden bytes around every value of a model's arena, for builds with AddressSanitizer."""

from __future__ import annotations

from collections.abc import Sequence

from onebit.codegen.options import Arena
from onebit.codegen.planner import Block, Plan, lower_bound

GUARD_BYTES = 64
SANITIZERS = ("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all", "-g", "-O1")


def with_guards(blocks: Sequence[Block]) -> Plan:
    """Every block at a place of its own, with unused bytes on both sides."""
    offsets, end = {}, GUARD_BYTES
    for block in blocks:
        offsets |= {member.value.name: end + member.offset for member in block.members}
        # AddressSanitizer's shadow has a resolution of 8 bytes
        end += -(-block.bytes // 8) * 8 + GUARD_BYTES
    return Plan(offsets, end, lower_bound(blocks))


def poison(name: str, blocks: Sequence[Block], plan: Plan, arena: Arena = "static") -> str:
    """C code, for the end of the model's file, that forbids all of the arena but the values.

    The function takes the caller's arena, or NULL where the module has one of its own.
    """
    place = "arena" if arena == "static" else "callers"
    values = [member.value for block in blocks for member in block.members]
    lines = [
        "#include <sanitizer/asan_interface.h>",
        f"void {name}_poison(void *callers);",
        f"void {name}_poison(void *callers)",
        "{",
        "    (void)callers;",
        f"    ASAN_POISON_MEMORY_REGION({place}, {plan.arena_bytes});",
        *(f"    ASAN_UNPOISON_MEMORY_REGION((char *){place} + {plan.offsets[v.name]}, {v.size});" for v in values),
        "}",
    ]
    return "\n".join(lines) + "\n"
