"""A simulation as one self-contained HTML page: figures, predictions, confusion, costs, what was compared.

    report = build_report(graph, [(result, samples)], title="digits")
    write_report(Path("report.html"), report)
"""

from onebit.simulate.report.build import Run, build_report
from onebit.simulate.report.context import Fact, Report
from onebit.simulate.report.html import render_report, write_report
from onebit.simulate.report.witnesses import Witness, witnesses

__all__ = ["Fact", "Report", "Run", "Witness", "build_report", "render_report", "witnesses", "write_report"]
