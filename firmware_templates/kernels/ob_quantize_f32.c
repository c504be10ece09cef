#include "ob_quantize.h"

void ob_quantize_f32(const float *input, int32_t pixels, int32_t channels, int32_t pitch, float negative,
                     uint32_t *output) {
  const uint32_t least = ob_bits_of(negative);
  const int32_t gap = pitch - channels;
  for (int32_t n = 0; n < pixels; ++n, input += gap) {
    for (int32_t first = 0; first < channels; first += 32) {
      const int32_t count = ob_min(32, channels - first);
      uint32_t word = 0u;
      for (int32_t i = count - 1; i >= 0; --i) {
        word = 2u * word + ob_is_negative(input[i], least);
      }
      input += count;
      *output++ = word;
    }
  }
}
