#include "ob_layout.h"
#include "ob_transpose32.h"

void ob_lanes_from_packed(const uint32_t *input, int32_t pixels, int32_t channels, uint32_t *output) {
  const int32_t words = (channels + 31) / 32;
  const int32_t lanes = (pixels + 31) / 32;
  for (int32_t word = 0; word < words; ++word) {
    for (int32_t lane = 0; lane < lanes; ++lane) {
      uint32_t block[32];
      for (int32_t i = 0; i < 32; ++i) {
        const int32_t pixel = lane * 32 + i;
        block[i] = pixel < pixels ? input[pixel * words + word] : 0u;
      }
      ob_transpose32(block);
      const int32_t count = ob_min(32, channels - word * 32);
      for (int32_t i = 0; i < count; ++i) {
        output[(word * 32 + i) * lanes + lane] = block[i];
      }
    }
  }
}
