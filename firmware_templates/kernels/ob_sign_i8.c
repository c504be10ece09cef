#include "ob_quantize.h"

void ob_sign_i8(const int8_t *input, int32_t pixels, int32_t channels, int32_t pitch, const int8_t *threshold,
                const uint32_t *inverted, uint32_t *output) {
  const int32_t gap = pitch - channels;
  for (int32_t n = 0; n < pixels; ++n, input += gap) {
    const int8_t *limit = threshold;
    const uint32_t *flip = inverted;
    for (int32_t first = 0; first < channels; first += 32) {
      const int32_t count = ob_min(32, channels - first);
      uint32_t word = 0u;
      for (int32_t i = 0; i < count; ++i) {
        word = ob_shift_in_sign(word, *input++ - *limit++);
      }
      *output++ = (word >> (uint32_t)(32 - count)) ^ *flip++;
    }
  }
}
