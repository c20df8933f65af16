/* SPDX-License-Identifier: Apache-2.0 */
#include "op/gemm_clblast.h"

#include "cl/context.h"
#include "cl/profile.h"
#include "op/range.h"

#include <clblast_c.h>

/* CLBlast counts elements from a buffer's start in ints, and so it does in its scratch, where it copies operands to whole tiles. */
#define CLBLAST_TILE 256

static bool within_ints(const sora_view *view, int64_t rows, int64_t leading)
{
    return view->offset + (uint64_t)(rows * leading) <= INT32_MAX;
}

bool sora_gemm_clblast_counts(const sora_gemm_desc *d)
{
    const sora_gemm_operand *a = &d->a, *b = &d->b, *a2 = &d->a2, *b2 = &d->b2;
    int64_t m = d->m + CLBLAST_TILE, n = d->n + CLBLAST_TILE, k = SORA_MAX(d->k, d->k2) + CLBLAST_TILE;
    return m * k + k * n + m * n <= INT32_MAX && within_ints(&d->c, d->m, d->c_leading) &&
           within_ints(&a->view, a->transposed ? d->k : d->m, a->leading) && within_ints(&a2->view, d->m, a2->leading) &&
           within_ints(&b->view, b->transposed ? d->n : d->k, b->leading) && within_ints(&b2->view, d->k2, b2->leading);
}

sora_tuning_key sora_gemm_clblast_key(void)
{
    return (sora_tuning_key) { "clblast", { 0 } };
}

static sora_status put_parameters(sora_context *context, const sora_gemm_variant *variant, sora_error *error)
{
    const sora_tuning_key key = sora_gemm_clblast_key();
    sora_tuning_variant choice = { 0 };
    if (!variant->parameters) sora_tuning_find(context, &key, &choice);
    int set = variant->parameters ? variant->parameters - 1 : choice.number[0];
    if (set >= SORA_CLBLAST_SETS) set = 0; /* of another version of soracl */
    int code = sora_clblast_put(&context->clblast, context->device.device_id, set);
    return code == 0
               ? SORA_OK
               : sora_fail(error, SORA_ERROR_DEVICE, "CLBlast refused the parameters \"%s\": status %d; soracl tune chooses anew",
                           sora_clblast_set_name(set), code);
}

/* Of all products of the context in turn, and in its account: CLBlast's own would come and go with each, where nobody counts it.
 * It stands by itself, as a library takes no place within a buffer; a rehearsal finds out how large it has to be. */
static sora_status provide_scratch(sora_context *context, uint64_t bytes, sora_error *error)
{
    if (bytes <= context->scratch.bytes) return SORA_OK;
    sora_buffer_destroy(&context->scratch); /* what is under way keeps it */
    return sora_buffer_create(context, bytes, "scratch of CLBlast's products", &context->scratch, error);
}

static sora_status library_product(sora_context *context, const sora_gemm_desc *d, int64_t k, const sora_gemm_operand *a,
                                   const sora_gemm_operand *b, float beta, sora_error *error)
{
    cl_command_queue queue = sora_context_queue(context);
    cl_event event = NULL;
    size_t m = (size_t)d->m, n = (size_t)d->n, terms = (size_t)k, scratch = 0;
    CLBlastTranspose turn_a = a->transposed ? CLBlastTransposeYes : CLBlastTransposeNo,
                     turn_b = b->transposed ? CLBlastTransposeYes : CLBlastTransposeNo;
    CLBlastStatusCode code =
        CLBlastSGemmTempBufferSize(CLBlastLayoutRowMajor, turn_a, turn_b, m, n, terms, a->view.offset, (size_t)a->leading,
                                   b->view.offset, (size_t)b->leading, d->c.offset, (size_t)d->c_leading, &queue, &scratch);
    sora_status status = code == CLBlastSuccess ? provide_scratch(context, scratch, error) : SORA_OK;
    if (status != SORA_OK || context->rehearsing) return status;
    if (code == CLBlastSuccess)
        code = CLBlastSgemmWithTempBuffer(CLBlastLayoutRowMajor, turn_a, turn_b, m, n, terms, sora_gemm_alpha(d), a->view.memory,
                                          a->view.offset, (size_t)a->leading, b->view.memory, b->view.offset, (size_t)b->leading,
                                          beta, d->c.memory, d->c.offset, (size_t)d->c_leading, &queue,
                                          context->profile ? &event : NULL, context->scratch.memory);
    if (code != CLBlastSuccess) /* what OpenCL said, or a code of its own, which is none of OpenCL's */
        return sora_fail(error, sora_cl_status((cl_int)code), "CLBlast's product of %lld x %lld x %lld failed: status %d",
                         (long long)d->m, (long long)d->n, (long long)k, (int)code);
    double flops = 2.0 * (double)(d->m * d->n * k);
    context->work.launches++;
    context->work.flops += flops;
    return event ? sora_profile_add(context->profile, event, "CLBlastSgemm", d->label ? d->label : "gemm", flops,
                                    4.0 * (double)((d->m + d->n) * k + d->m * d->n), error)
                 : SORA_OK;
}

sora_status sora_gemm_clblast(sora_context *context, const sora_gemm_desc *d, const sora_gemm_variant *variant, sora_error *error)
{
    sora_status status = SORA_OK;
    SORA_TRY(put_parameters(context, variant, error));
    SORA_TRY(library_product(context, d, d->k, &d->a, &d->b, d->accumulate ? 1.0f : 0.0f, error));
    if (d->k2 > 0) SORA_TRY(library_product(context, d, d->k2, &d->a2, &d->b2, 1.0f, error));
    if (d->bias.memory || d->relu) {
        const sora_launch_desc epilogue = { .file = "gemm_clblast",
                                            .kernel = "gemm_clblast_epilogue",
                                            .label = d->label,
                                            .arguments = SORA_ARGUMENTS(SORA_VIEW(&d->c), SORA_LONG(d->c_leading), SORA_INT(d->m),
                                                                        SORA_INT(d->n), SORA_VIEW(&d->bias),
                                                                        SORA_INT(d->bias.memory != NULL), SORA_INT(d->relu)) };
        SORA_TRY(sora_launch_range(context, epilogue, d->m * d->n, 1, error));
    }
cleanup:
    return status;
}
