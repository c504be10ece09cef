"""Keras, Larq and SavedModel sources: TensorFlow and LCE's converter in a child process, guarded and verified.

    parent (no TensorFlow)                        child (`worker`)
    convert_keras -> KerasProcess  -- JSON lines --> safety   refuses files that would run code
                                                     sources  loads, checks, freezes to one graph of operations
                                                     guards   rewrites what LCE's converter gets wrong
    core passes, int8, oracle      <-- .npz files -- LCE's converter; the source's own results
    verify: source against file

Only the modules that the child uses import TensorFlow: `sources`, `frozen`, `guards`, `worker`; `describe` looks at a
model that somebody else has loaded.
"""

from __future__ import annotations
