/* Internal to the ob_bconv2d_* kernels: gathering a window, and counting differing signs. */
#ifndef OB_BCONV2D_CORE_H
#define OB_BCONV2D_CORE_H

#include "ob_bconv2d.h"

/* Copy the window of output pixel (oy, ox) to `patch` as [groups][KH][KW][group_words], outside pixels as 0.
 * Returns the number of taps outside the image. */
int32_t ob_bconv2d_gather(const ob_bconv2d_params *params, const uint32_t *input, int32_t oy, int32_t ox,
                          uint32_t *patch);

/* What zero padding adds to x for one filter: the sum over outside taps of tap_channels - 2 * popcount(tap). The
 * gathered zeros have counted popcount(tap) differing signs for each of them. */
int32_t ob_bconv2d_outside(const ob_bconv2d_params *params, const uint32_t *filter, int32_t oy, int32_t ox);

/* h, l = carry and sum of the bitwise addition a + b + c (a full adder on 32 lanes). */
#define OB_CSA(h, l, a, b, c)                     \
  do {                                            \
    const uint32_t csa_a = (a), csa_b = (b);      \
    const uint32_t csa_c = (c);                   \
    const uint32_t csa_u = csa_a ^ csa_b;         \
    (h) = (csa_a & csa_b) | (csa_u & csa_c);      \
    (l) = csa_u ^ csa_c;                          \
  } while (0)

/* Number of differing signs in n words: carry-save addition of eight words at a time, so that one popcount serves 256
 * signs (Harley-Seal). Invariant: counted so far = 8 * eights + 4 * pop(fours) + 2 * pop(twos) + pop(ones). */
static inline int32_t ob_count_differing(const uint32_t *a, const uint32_t *b, int32_t n) {
  uint32_t ones = 0u;
  uint32_t twos = 0u;
  uint32_t fours = 0u;
  int32_t eights = 0;
  int32_t rest = 0;
  int32_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint32_t two_a, two_b, four_a, four_b, eight;
    OB_CSA(two_a, ones, ones, a[i] ^ b[i], a[i + 1] ^ b[i + 1]);
    OB_CSA(two_b, ones, ones, a[i + 2] ^ b[i + 2], a[i + 3] ^ b[i + 3]);
    OB_CSA(four_a, twos, twos, two_a, two_b);
    OB_CSA(two_a, ones, ones, a[i + 4] ^ b[i + 4], a[i + 5] ^ b[i + 5]);
    OB_CSA(two_b, ones, ones, a[i + 6] ^ b[i + 6], a[i + 7] ^ b[i + 7]);
    OB_CSA(four_b, twos, twos, two_a, two_b);
    OB_CSA(eight, fours, fours, four_a, four_b);
    eights += ob_popcount(eight);
  }
  for (; i < n; ++i) {
    rest += ob_popcount(a[i] ^ b[i]);
  }
  if (n < 8) {
    return rest;
  }
  return 8 * eights + 4 * ob_popcount(fours) + 2 * ob_popcount(twos) + ob_popcount(ones) + rest;
}

/* x of output channel o for a gathered window; `outside` is what ob_bconv2d_gather returned. */
static inline int32_t ob_bconv2d_x(const ob_bconv2d_params *params, const uint32_t *patch, const uint32_t *filter,
                                   int32_t o, int32_t oy, int32_t ox, int32_t outside) {
  const int32_t per_group = params->window.kernel_h * params->window.kernel_w * (params->words / params->groups);
  const int32_t group = params->groups == 1 ? 0 : o / (params->out_channels / params->groups);
  const uint32_t *row = filter + o * per_group;
  int32_t x = 2 * ob_count_differing(patch + group * per_group, row, per_group);
  if (outside > 0 && params->tap_channels > 0) {
    x += ob_bconv2d_outside(params, row, oy, ox);
  }
  return x;
}

#endif
