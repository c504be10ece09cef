"""Running generated C on the host and on emulated cores, and comparing it with the reference, element by element."""

from onebit.core.oracle import NumpyOracle, Oracle
from onebit.simulate.inputs import Samples, load_samples
from onebit.simulate.oracle import LceOracle, find_oracle
from onebit.simulate.result import LayerResult, Mismatch, SimulationResult
from onebit.simulate.simulator import simulate

__all__ = [
    "LayerResult",
    "LceOracle",
    "Mismatch",
    "NumpyOracle",
    "Oracle",
    "Samples",
    "SimulationResult",
    "find_oracle",
    "load_samples",
    "simulate",
]
