/* Signs in and out of packed bits, for `pixels` pixels of `channels` values each. The pixels of an input with a `pitch` are
 * that many elements apart: its channels may be some of those of a larger map. */
#ifndef OB_QUANTIZE_H
#define OB_QUANTIZE_H

#include "ob_common.h"

/* 1 for a float that counts as negative, its bits between `least` and those of -infinity, else 0. They are compared as
 * integers: without floating point registers a comparison of floats is a call. */
static inline uint32_t ob_is_negative(float x, uint32_t least) {
  return (uint32_t)(ob_bits_of(x) - least <= 0xFF800000u - least);
}

/* bit = (x <= negative), with the float nearest to 0 that counts as negative: +0, -0 and NaN give bit 0 (+1), and so do
 * denormals where they are flushed, as LiteRT does. */
void ob_quantize_f32(const float *input, int32_t pixels, int32_t channels, int32_t pitch, float negative,
                     uint32_t *output);

/* bit = (x < zero_point). The output may start at the input's address from four channels on: a word is written after the
 * channels that it holds are read. */
void ob_quantize_i8(const int8_t *input, int32_t pixels, int32_t channels, int32_t pitch, int32_t zero_point,
                    uint32_t *output);

/* bit = (x < threshold of the channel), inverted where the channel's bit of `inverted` is set. The output may lie over the
 * input as in ob_quantize_i8. */
void ob_sign_i8(const int8_t *input, int32_t pixels, int32_t channels, int32_t pitch, const int8_t *threshold,
                const uint32_t *inverted, uint32_t *output);

/* bit = !x. */
void ob_quantize_bool(const bool *input, int32_t pixels, int32_t channels, uint32_t *output);

/* bit 0 to +1, bit 1 to -1. */
void ob_dequantize_f32(const uint32_t *input, int32_t pixels, int32_t channels, float *output);

/* bit 0 to `plus`, bit 1 to `minus`. */
void ob_dequantize_i8(const uint32_t *input, int32_t pixels, int32_t channels, int8_t plus, int8_t minus,
                      int8_t *output);

/* bit 0 to true, bit 1 to false. */
void ob_dequantize_bool(const uint32_t *input, int32_t pixels, int32_t channels, bool *output);

#endif
