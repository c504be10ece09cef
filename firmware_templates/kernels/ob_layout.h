/* Conversion between the two layouts of packed signs, for `pixels` pixels (row-major) of `channels` channels.
 *
 * channel-packed: [pixels][ceil(channels/32)], channel c in word c / 32, bit c % 32.
 * pixel lanes:    [channels][ceil(pixels/32)], pixel n in word n / 32, bit n % 32.
 * Unused bits are 0 in both. Each is a transposition of 32 x 32 bit blocks.
 */
#ifndef OB_LAYOUT_H
#define OB_LAYOUT_H

#include "ob_common.h"

void ob_lanes_from_packed(const uint32_t *input, int32_t pixels, int32_t channels, uint32_t *output);
void ob_packed_from_lanes(const uint32_t *input, int32_t pixels, int32_t channels, uint32_t *output);

/* Plain copy of n bytes, for a model whose output is its reshaped input. */
void ob_copy(const void *input, int32_t n, void *output);

#endif
