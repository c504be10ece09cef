/* Internal to the layout kernels. */
#ifndef OB_TRANSPOSE32_H
#define OB_TRANSPOSE32_H

#include "ob_common.h"

/* Transpose a 32 x 32 bit matrix in place: bit j of word i becomes bit i of word j. Five rounds of swapping blocks of
 * 16, 8, 4, 2, 1 rows with the like columns. */
static inline void ob_transpose32(uint32_t block[32]) {
  uint32_t mask = 0x0000FFFFu;
  for (int32_t size = 16; size > 0; size >>= 1, mask ^= mask << (uint32_t)size) {
    for (int32_t i = 0; i < 32; i = ((i | size) + 1) & ~size) {
      const uint32_t swap = ((block[i] >> (uint32_t)size) ^ block[i | size]) & mask;
      block[i] ^= swap << (uint32_t)size;
      block[i | size] ^= swap;
    }
  }
}

#endif
