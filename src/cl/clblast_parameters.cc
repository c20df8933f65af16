/* SPDX-License-Identifier: Apache-2.0 */
#include "cl/clblast_parameters.h"

#include <clblast.h>
#include <string>
#include <unordered_map>

namespace
{

struct kernel {
    const char *name;
    int first, count;
};

const kernel kernels[] = { { "Xgemm", 0, 16 }, { "XgemmDirect", 16, 10 } };

const char *const names[SORA_CLBLAST_PARAMETERS] = { "GEMMK", "KREG",  "KWG",  "KWI",    "MDIMA",  "MDIMC",  "MWG",
                                                     "NDIMB", "NDIMC", "NWG",  "SA",     "SB",     "STRM",   "STRN",
                                                     "VWM",   "VWN",   "WGD",  "MDIMCD", "NDIMCD", "MDIMAD", "NDIMBD",
                                                     "KWID",  "VWMD",  "VWND", "PADA",   "PADB" };

struct set {
    const char *name;
    size_t values[SORA_CLBLAST_PARAMETERS];
};

/* By C of a work-group, its work-items, and whether operands go through local memory. */
const set sets[SORA_CLBLAST_SETS] = {
    { "CLBlast's own", {} },
    { "32 x 32 by 8 x 8", { 0, 1, 32, 2, 8, 8, 32, 8, 8, 32, 1, 1, 0, 0, 2, 2, 16, 8, 8, 8, 8, 2, 2, 2, 1, 1 } },
    { "64 x 64 by 8 x 8", { 0, 1, 32, 2, 8, 8, 64, 8, 8, 64, 1, 1, 0, 0, 4, 4, 32, 8, 8, 8, 8, 2, 4, 4, 1, 1 } },
    { "64 x 64 by 8 x 8, no copies", { 0, 1, 32, 2, 8, 8, 64, 8, 8, 64, 0, 0, 0, 0, 4, 4, 8, 8, 8, 8, 8, 2, 1, 1, 0, 0 } },
    { "128 x 64 by 16 x 8", { 0, 1, 16, 2, 16, 16, 128, 8, 8, 64, 1, 1, 0, 0, 4, 4, 32, 16, 8, 16, 8, 2, 2, 4, 1, 1 } },
    { "128 x 128 by 16 x 16", { 0, 1, 16, 2, 16, 16, 128, 16, 16, 128, 1, 1, 0, 0, 4, 4, 32, 16, 16, 16, 16, 2, 2, 2, 1, 1 } },
};

int retrieve(cl_device_id device, size_t *values)
{
    for (const kernel &k : kernels) {
        std::unordered_map<std::string, size_t> found;
        auto status = clblast::RetrieveParameters(device, k.name, clblast::Precision::kSingle, found);
        if (status != clblast::StatusCode::kSuccess) return static_cast<int>(status);
        for (int i = k.first; i < k.first + k.count; i++) {
            auto value = found.find(names[i]);
            if (value == found.end()) return static_cast<int>(clblast::StatusCode::kMissingOverrideParameter);
            values[i] = value->second;
        }
    }
    return 0;
}

int put(cl_device_id device, const size_t *values)
{
    for (const kernel &k : kernels) {
        std::unordered_map<std::string, size_t> parameters;
        for (int i = k.first; i < k.first + k.count; i++) parameters[names[i]] = values[i];
        auto status = clblast::OverrideParameters(device, k.name, clblast::Precision::kSingle, parameters);
        if (status != clblast::StatusCode::kSuccess) return static_cast<int>(status);
    }
    return 0;
}

} // namespace

extern "C" const char *sora_clblast_set_name(int set)
{
    return sets[set].name;
}

extern "C" int sora_clblast_put(sora_clblast_state *state, cl_device_id device, int set)
{
    if (set == state->set) return 0;
    try {
        int status = state->known ? 0 : retrieve(device, state->own);
        if (status != 0) return status;
        state->known = true;
        status = put(device, set ? sets[set].values : state->own);
        if (status == 0) state->set = set;
        return status;
    } catch (...) {
        return static_cast<int>(clblast::StatusCode::kUnexpectedError);
    }
}
