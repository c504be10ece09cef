/* Comparisons of two operands, element by element, to bool; `ob_operands` says which operand repeats.
 * The output may start at the address of an int8 operand that does not repeat. */
#ifndef OB_COMPARE_H
#define OB_COMPARE_H

#include "ob_operands.h"

void ob_greater_f32(const ob_operands *operands, const float *a, const float *b, bool *output);
void ob_greater_equal_f32(const ob_operands *operands, const float *a, const float *b, bool *output);

/* int8 as LiteRT's built-in kernels compare: (x - zero point) << 8 times its scale, q * 2^(exponent - 31), rounded half
 * away from zero; `or_equal` makes a > b to a >= b. */
typedef struct {
  int32_t zero_a, zero_b;
  int32_t q_a, exponent_a, q_b, exponent_b;
  int32_t or_equal;
} ob_greater_i8_params;

void ob_greater_i8(const ob_greater_i8_params *params, const ob_operands *operands, const int8_t *a, const int8_t *b,
                   bool *output);

#endif
