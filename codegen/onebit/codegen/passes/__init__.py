"""The passes of the code generator, in the one order in which they run."""

from typing import Final

from onebit.codegen.passes.fold_into_int8_sign import fold_into_int8_sign
from onebit.codegen.passes.fold_pad import fold_pad
from onebit.codegen.passes.fold_sign_into_conv import fold_sign_into_conv
from onebit.codegen.passes.fold_sign_into_ranges import fold_sign_into_ranges
from onebit.codegen.passes.fold_sign_into_zero_padded_bconv import fold_sign_into_zero_padded_bconv
from onebit.codegen.passes.integer_output_stage import integer_output_stage
from onebit.core.passes import Pass
from onebit.core.passes.binary_dense import binary_dense
from onebit.core.passes.elementwise_before_reshape import elementwise_before_reshape
from onebit.core.passes.fold_sign import fold_sign_into_bconv
from onebit.core.passes.pool_before_dequantize import pool_before_dequantize
from onebit.core.passes.remove_dead_branches import remove_dead_branches
from onebit.core.passes.sign_before_join import sign_before_join
from onebit.core.passes.sign_before_pool import sign_before_pool
from onebit.core.passes.sign_before_reshape import sign_before_reshape

PIPELINE: Final[tuple[Pass, ...]] = (
    # first: a dead reader keeps others from seeing that a value has a single live one
    remove_dead_branches,
    # a border belongs to the window that reads it
    fold_pad,
    # a pool of signs works on bits; this leaves their LceDequantize to the dense layer that reads it
    pool_before_dequantize,
    # a dense layer of +c and -c on signs is a binary convolution, and a sign behind it foldable like any other
    binary_dense,
    # a reshape that only feeds a sign, the one behind a dense layer too, is in no convolution's way
    sign_before_reshape,
    # a join that only feeds a sign joins bits, a thirty-second of the bytes
    sign_before_join,
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
    # what is left between an int8 value and its sign, a learned threshold say, is a comparison per channel
    fold_into_int8_sign,
    # an activation or QUANTIZE behind a reshape belongs to the convolution in front of it
    elementwise_before_reshape,
    # last: what is still int8 behind a binary convolution is really read as int8
    integer_output_stage,
)
