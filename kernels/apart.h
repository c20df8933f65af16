/* SPDX-License-Identifier: Apache-2.0 */
/* Which of `items` long work-items this is, where a launch has several times as many (SORA_APART); -1: one of those between, which do nothing. PoCL deals out
 * 32 work-groups for each of its threads at a time, or half of those that are left: of few long ones a thread has several left when the others have none. */
static inline int item_of(int items)
{
    int apart = (int)get_global_size(0) / items, at = (int)get_global_id(0);
    return at % apart ? -1 : at / apart;
}

/* What a long work-item does, or much of it: a function that its kernel calls. PoCL compiles what is in a kernel three times, for itself and for launches of two kinds, but what it
 * calls once. It is told which item it is: what asks for get_global_id() would become part of the kernel again. */
#define BY_ITSELF __attribute__((noinline))
