/* Binary convolution: XOR and popcount over gathered windows, and one output stage per kernel.
 *
 * Input [H, W, words], filters [O, KH, KW, group_words], both packed signs. With p the number of differing signs in a
 * window and K = KH * KW * channels per group, the dot product is K - 2p. Kernels work with x = 2p, in 0..2K.
 * Padding: pixels outside the image are +1 (words 0), or count as 0 with a table `border` (else NULL) of what that
 * changes: every outside tap then adds the sum of its signs to x. The sum for an output channel depends on the row and
 * the column only by which taps are inside. The table holds the classes of rows [out_h] and of columns [out_w] that
 * have the same taps inside, and behind them for every pair of classes but the first border_skip (all taps inside) the
 * correction of x [O]; the pair (row, column) has number row * border_cols + column.
 * `patch` is scratch of KH * KW * words words.
 */
#ifndef OB_BCONV2D_H
#define OB_BCONV2D_H

#include "ob_common.h"

typedef struct {
  ob_window window;
  int32_t words;        /* words per input pixel */
  int32_t groups;       /* 1, or a divisor of words and of out_channels */
  int32_t out_channels;
  int32_t pitch; /* of int8 and float outputs, see ob_common.h */
  const int16_t *border;
  int32_t border_cols; /* classes of columns */
  int32_t border_skip; /* 1, or 0 where no pixel has all taps inside */
} ob_bconv2d_params;

/* Packed bits out, [OH, OW, ceil(O/32)]: bit = (x > threshold[o]). */
void ob_bconv2d_bits(const ob_bconv2d_params *params, const uint32_t *input, const uint32_t *filter,
                     const int32_t *threshold, uint32_t *patch, uint32_t *output);

/* Packed bits out: bit = (below[o] < x < end[o]), inverted where bit o of `outside` is set. */
void ob_bconv2d_bits_range(const ob_bconv2d_params *params, const uint32_t *input, const uint32_t *filter,
                           const int32_t *below, const int32_t *end, const uint32_t *outside, uint32_t *patch,
                           uint32_t *output);

/* Packed bits out: bit n % 32 of table[o * columns + n / 32] with n = x >> index_shift. */
void ob_bconv2d_bits_table(const ob_bconv2d_params *params, const uint32_t *input, const uint32_t *filter,
                           const uint32_t *table, int32_t columns, int32_t index_shift, uint32_t *patch,
                           uint32_t *output);

/* int8 out, [OH, OW, O]: clamp((x * multiplier[o] + offset[o]) >> shift, -128, 127); the sum must fit int32. */
void ob_bconv2d_i8(const ob_bconv2d_params *params, const uint32_t *input, const uint32_t *filter,
                   const int32_t *multiplier, const int32_t *offset, int32_t shift, uint32_t *patch, int8_t *output);

/* int8 out, [OH, OW, O]: table[o * columns + (x >> index_shift)]. */
void ob_bconv2d_i8_table(const ob_bconv2d_params *params, const uint32_t *input, const uint32_t *filter,
                         const int8_t *table, int32_t columns, int32_t index_shift, uint32_t *patch, int8_t *output);

/* int8 out, [OH, OW, O]: ((x * multiplier + offset) mod 2^32 >> 24) - 128. `segments` are rows of end, multiplier and
 * offset; channel o takes the first row from number first[o] on with x < end. Its last end is INT32_MAX. */
void ob_bconv2d_i8_segments(const ob_bconv2d_params *params, const uint32_t *input, const uint32_t *filter,
                            const int32_t *first, const int32_t *segments, uint32_t *patch, int8_t *output);

/* float out, [OH, OW, O]: clamp(x, low, high) * multiplier[o] + bias[o], two float32 roundings (no fused
 * multiply-add: compile with -ffp-contract=off). Source: the reference kernel of Larq Compute Engine. */
void ob_bconv2d_f32(const ob_bconv2d_params *params, const uint32_t *input, const uint32_t *filter,
                    const float *multiplier, const float *bias, int32_t low, int32_t high, uint32_t *patch,
                    float *output);

#endif
