"""Simulations as one self-contained HTML page: figures, predictions, confusion, costs, what was compared.

With `result` from `simulate(model, samples)`::

    report = build_report(read_model(model), [Run(result, samples)], title="digits")
    write_report(Path("report.html"), report)
"""

from onebit.simulate.report.build import Run, build_report
from onebit.simulate.report.context import Fact, Report
from onebit.simulate.report.html import render_report, write_report
from onebit.simulate.report.witnesses import Witness, witnesses

__all__ = ["Fact", "Report", "Run", "Witness", "build_report", "render_report", "witnesses", "write_report"]
