"""From a graph to C: passes, kernel selection, layouts, memory planning, emission."""

from onebit.codegen.generate import Generated, generate
from onebit.codegen.schedule import Program, compile_graph
from onebit.codegen.targets import Target, find_target

__all__ = ["Generated", "Program", "Target", "compile_graph", "find_target", "generate"]
