/* y = f(a, b), element by element; `ob_operands` says which operand repeats. Aliasing of inputs and output is allowed
 * for an operand that does not repeat.
 */
#ifndef OB_ELEMENTWISE_H
#define OB_ELEMENTWISE_H

#include "ob_operands.h"
#include "ob_requantize.h"

/* float: one rounding, then clamped to [low, high] by comparisons, which NaN and -0 pass. */
void ob_add_f32(const ob_operands *operands, const float *a, const float *b, float low, float high, float *output);
void ob_sub_f32(const ob_operands *operands, const float *a, const float *b, float low, float high, float *output);
void ob_mul_f32(const ob_operands *operands, const float *a, const float *b, float low, float high, float *output);

/* y limited to [low, high]. Without an activation these are the ends of the finite numbers: only infinities are beyond,
 * and `finite` says so. */
static inline float ob_limit(float y, float low, float high, bool finite) {
  if (finite && (ob_bits_of(y) << 1) != 0xFF000000u) {
    return y;
  }
  return y < low ? low : (y > high ? high : y);
}

static inline bool ob_is_finite_range(float low, float high) {
  return ob_bits_of(low) == 0xFF7FFFFFu && ob_bits_of(high) == 0x7F7FFFFFu;
}

/* a if it is strictly beyond b, else b. */
void ob_maximum_f32(const ob_operands *operands, const float *a, const float *b, float *output);
void ob_minimum_f32(const ob_operands *operands, const float *a, const float *b, float *output);
void ob_maximum_i8(const ob_operands *operands, const int8_t *a, const int8_t *b, int8_t *output);
void ob_minimum_i8(const ob_operands *operands, const int8_t *a, const int8_t *b, int8_t *output);

/* A real factor q * 2^(exponent - 31), see ob_requantize.h. */
typedef struct {
  int32_t q, exponent;
} ob_factor;

/* int8 a + sign * b as LiteRT's built-in kernels compute it: the operands less their zero points, shifted left by 20,
 * brought to twice the larger scale by factors below 1, added, scaled to the output, every product rounded half away
 * from zero; then zero point and clamp. In whole blocks of a run, which LiteRT's vector code takes, the operands are
 * rounded otherwise: `block` 8: the last shift rounds down; 16: all shifts first, then one rounding; 0: no blocks. */
typedef struct {
  int32_t zero_a, zero_b;
  ob_factor a, b, output;
  int32_t sign, block;
  int32_t zero_point, low, high;
} ob_add_i8_params;

void ob_add_i8(const ob_add_i8_params *params, const ob_operands *operands, const int8_t *a, const int8_t *b,
               int8_t *output);

/* The same as one expression: (a * first + b * second + offset) >> shift, saturated. Nothing leaves 32 bits. Operands are
 * of full size or repeat in runs of several elements. The code generator proves the factors on all pairs of values. */
typedef struct {
  int32_t first, second, offset, shift;
} ob_fixed_sum;

static inline int8_t ob_fixed_add(const ob_fixed_sum *sum, int32_t a, int32_t b) {
  return ob_saturate_i8(ob_shift_right(a * sum->first + b * sum->second + sum->offset, sum->shift));
}

void ob_add_i8_fixed(const ob_fixed_sum *sum, const ob_operands *operands, const int8_t *a, const int8_t *b,
                     int8_t *output);

/* int8 a * b: the operands less their zero points, one product rounded half away from zero, zero point and clamp. */
typedef struct {
  int32_t zero_a, zero_b;
  ob_factor output;
  int32_t zero_point, low, high;
} ob_mul_i8_params;

void ob_mul_i8(const ob_mul_i8_params *params, const ob_operands *operands, const int8_t *a, const int8_t *b,
               int8_t *output);

/* a if a >= 0, else alpha * a. The bits of what is not below 0, -0 included, are not above those of -0; a NaN stays one on
 * either side. */
static inline float ob_prelu(float a, float alpha) { return ob_bits_of(a) <= 0x80000000u ? a : a * alpha; }

void ob_prelu_f32(const ob_operands *operands, const float *a, const float *alpha, float *output);

/* int8: either branch with a factor of its own, rounded half away from zero. */
typedef struct {
  int32_t zero_a, zero_alpha;
  ob_factor positive, negative;
  int32_t zero_point;
} ob_prelu_i8_params;

static inline int8_t ob_prelu_quantized(const ob_prelu_i8_params *params, int32_t a, int32_t alpha) {
  const int32_t x = a - params->zero_a;
  const ob_factor *factor = x >= 0 ? &params->positive : &params->negative;
  const int32_t value = x >= 0 ? x : x * (alpha - params->zero_alpha);
  return ob_saturate_i8(ob_scale(value, factor->q, factor->exponent, true) + params->zero_point);
}

void ob_prelu_i8(const ob_prelu_i8_params *params, const ob_operands *operands, const int8_t *a, const int8_t *alpha,
                 int8_t *output);

/* The same with the signs of the result, packed (see ob_quantize.h). Runs are pixels, both operands have an element per
 * channel; the output may lie over one that does not repeat, the bits over nothing. */
void ob_add_f32_bits(const ob_operands *operands, const float *a, const float *b, float low, float high, float negative,
                     float *output, uint32_t *bits);
void ob_add_i8_fixed_bits(const ob_fixed_sum *sum, const ob_operands *operands, const int8_t *a, const int8_t *b,
                          int32_t zero_point, int8_t *output, uint32_t *bits);
void ob_prelu_f32_bits(const ob_operands *operands, const float *a, const float *alpha, float negative, float *output,
                       uint32_t *bits);
void ob_prelu_i8_bits(const ob_prelu_i8_params *params, const ob_operands *operands, const int8_t *a,
                      const int8_t *alpha, int32_t zero_point, int8_t *output, uint32_t *bits);

#endif
