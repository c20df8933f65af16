/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to a number of a product at last. */
static inline float finish(float v, int column, __global const float *bias, ulong bias_at, int has_bias, int relu)
{
    if (has_bias) v += bias[bias_at + column];
    return relu && v < 0.0f ? 0.0f : v;
}
