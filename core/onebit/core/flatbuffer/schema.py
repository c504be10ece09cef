"""The part of the TFLite schema (version 3) that onebit reads and writes, as data.

Each table lists its fields as name -> (slot, kind, default). Kinds: a scalar (``bool u8 i8 i32 u32 u64 f32``),
``string``, ``bytes`` (a vector of u8), ``[scalar]``, ``[string]``, ``table:T`` and ``[table:T]``; ``union:options`` is
the builtin options table, whose type code is in the field before it. A test compares this table with the schema
module that LiteRT generates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Field:
    """One field: vtable slot, kind, default of an absent scalar."""

    slot: int
    kind: str
    default: int | float = 0


FILE_IDENTIFIER: Final = b"TFL3"
SCHEMA_VERSION: Final = 3
CUSTOM: Final = 32
#: builtin codes above this one do not fit the deprecated one-byte field
PLACEHOLDER_FOR_GREATER_OP_CODES: Final = 127

TENSOR_TYPES: Final = {0: "float32", 2: "int32", 6: "bool", 9: "int8"}
TENSOR_TYPE_NAMES: Final = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16", 8: "complex64",
    9: "int8", 10: "float64", 12: "uint64", 13: "resource", 14: "variant", 15: "uint32", 16: "uint16", 17: "int4",
}  # fmt: skip

#: BuiltinOptions union: type code -> table
OPTION_TABLES: Final = {
    1: "Conv2DOptions",
    2: "DepthwiseConv2DOptions",
    5: "Pool2DOptions",
    8: "FullyConnectedOptions",
    9: "SoftmaxOptions",
    10: "ConcatenationOptions",
    11: "AddOptions",
    17: "ReshapeOptions",
    21: "MulOptions",
    27: "ReducerOptions",
    28: "SubOptions",
    30: "SqueezeOptions",
    32: "StridedSliceOptions",
    35: "SplitOptions",
    59: "PackOptions",
    74: "ResizeNearestNeighborOptions",
    75: "LeakyReluOptions",
}

TABLES: Final[dict[str, dict[str, Field]]] = {
    "Model": {
        "version": Field(0, "u32"),
        "operator_codes": Field(1, "[table:OperatorCode]"),
        "subgraphs": Field(2, "[table:SubGraph]"),
        "description": Field(3, "string"),
        "buffers": Field(4, "[table:Buffer]"),
        "metadata": Field(6, "[table:Metadata]"),
    },
    "OperatorCode": {
        "deprecated_builtin_code": Field(0, "i8"),
        "custom_code": Field(1, "string"),
        "version": Field(2, "i32", 1),
        "builtin_code": Field(3, "i32"),
    },
    "SubGraph": {
        "tensors": Field(0, "[table:Tensor]"),
        "inputs": Field(1, "[i32]"),
        "outputs": Field(2, "[i32]"),
        "operators": Field(3, "[table:Operator]"),
        "name": Field(4, "string"),
    },
    "Tensor": {
        "shape": Field(0, "[i32]"),
        "type": Field(1, "i8"),
        "buffer": Field(2, "u32"),
        "name": Field(3, "string"),
        "quantization": Field(4, "table:QuantizationParameters"),
        "is_variable": Field(5, "bool"),
        "shape_signature": Field(7, "[i32]"),
    },
    "QuantizationParameters": {
        "scale": Field(2, "[f32]"),
        "zero_point": Field(3, "[i64]"),
        "quantized_dimension": Field(6, "i32"),
    },
    "Operator": {
        "opcode_index": Field(0, "u32"),
        "inputs": Field(1, "[i32]"),
        "outputs": Field(2, "[i32]"),
        "builtin_options_type": Field(3, "u8"),
        "builtin_options": Field(4, "union:options"),
        "custom_options": Field(5, "bytes"),
    },
    "Buffer": {"data": Field(0, "bytes")},
    "Metadata": {"name": Field(0, "string"), "buffer": Field(1, "u32")},
    "Conv2DOptions": {
        "padding": Field(0, "i8"),
        "stride_w": Field(1, "i32"),
        "stride_h": Field(2, "i32"),
        "fused_activation_function": Field(3, "i8"),
        "dilation_w_factor": Field(4, "i32", 1),
        "dilation_h_factor": Field(5, "i32", 1),
    },
    "DepthwiseConv2DOptions": {
        "padding": Field(0, "i8"),
        "stride_w": Field(1, "i32"),
        "stride_h": Field(2, "i32"),
        "depth_multiplier": Field(3, "i32"),
        "fused_activation_function": Field(4, "i8"),
        "dilation_w_factor": Field(5, "i32", 1),
        "dilation_h_factor": Field(6, "i32", 1),
    },
    "Pool2DOptions": {
        "padding": Field(0, "i8"),
        "stride_w": Field(1, "i32"),
        "stride_h": Field(2, "i32"),
        "filter_width": Field(3, "i32"),
        "filter_height": Field(4, "i32"),
        "fused_activation_function": Field(5, "i8"),
    },
    "FullyConnectedOptions": {
        "fused_activation_function": Field(0, "i8"),
        "weights_format": Field(1, "i8"),
        "keep_num_dims": Field(2, "bool"),
    },
    "SoftmaxOptions": {"beta": Field(0, "f32")},
    "AddOptions": {"fused_activation_function": Field(0, "i8")},
    "MulOptions": {"fused_activation_function": Field(0, "i8")},
    "SubOptions": {"fused_activation_function": Field(0, "i8")},
    "LeakyReluOptions": {"alpha": Field(0, "f32")},
    "ReducerOptions": {"keep_dims": Field(0, "bool")},
    "ReshapeOptions": {"new_shape": Field(0, "[i32]")},
    "ConcatenationOptions": {"axis": Field(0, "i32"), "fused_activation_function": Field(1, "i8")},
    "PackOptions": {"values_count": Field(0, "i32"), "axis": Field(1, "i32")},
    "ResizeNearestNeighborOptions": {"align_corners": Field(0, "bool"), "half_pixel_centers": Field(1, "bool")},
    "SplitOptions": {"num_splits": Field(0, "i32")},
    "SqueezeOptions": {"squeeze_dims": Field(0, "[i32]")},
    "StridedSliceOptions": {
        "begin_mask": Field(0, "i32"),
        "end_mask": Field(1, "i32"),
        "ellipsis_mask": Field(2, "i32"),
        "new_axis_mask": Field(3, "i32"),
        "shrink_axis_mask": Field(4, "i32"),
        "offset": Field(5, "bool"),
    },
}
