/* SPDX-License-Identifier: Apache-2.0 */
/* Which of `items` long work-items this is, where a launch has several times as many (SORA_APART); -1: one of those between, which do nothing. PoCL deals out
 * 32 work-groups for each of its threads at a time, or half of those that are left: of few long ones a thread has several left when the others have none. */
static inline int item_of(int items)
{
    int apart = (int)get_global_size(0) / items, at = (int)get_global_id(0);
    return at % apart ? -1 : at / apart;
}
