"""The passes of the code generator, in the one order in which they run."""

from typing import Final

from onebit.codegen.passes.fold_sign_into_conv import fold_sign_into_conv
from onebit.codegen.passes.fold_sign_into_ranges import fold_sign_into_ranges
from onebit.codegen.passes.fold_sign_into_zero_padded_bconv import fold_sign_into_zero_padded_bconv
from onebit.codegen.passes.integer_output_stage import integer_output_stage
from onebit.core.passes import Pass
from onebit.core.passes.fold_sign import fold_sign_into_bconv
from onebit.core.passes.sign_before_pool import sign_before_pool

PIPELINE: Final[tuple[Pass, ...]] = (
    # a pool that only feeds a sign works on bits; this exposes convolution - sign pairs to the passes below
    sign_before_pool,
    # float chains behind a binary convolution become LCE's own bits form where it exists
    fold_sign_into_bconv,
    # ... and onebit's where it does not (zero padding)
    fold_sign_into_zero_padded_bconv,
    # ... and the signs that no single threshold expresses
    fold_sign_into_ranges,
    # the 8-bit first layer writes bits, its int8 map never exists
    fold_sign_into_conv,
    # last: what is still int8 behind a binary convolution is really read as int8
    integer_output_stage,
)
