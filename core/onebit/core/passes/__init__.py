"""Target-independent passes, one file each, and the pipeline that runs them."""

from onebit.core.passes.pipeline import Pass, PassResult, rewrite_all, run_passes

__all__ = ["Pass", "PassResult", "rewrite_all", "run_passes"]
