/* SPDX-License-Identifier: Apache-2.0 */
#include "data/sentencepiece.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sentencepiece_processor.h>
#include <string>
#include <vector>

struct sora_sentencepiece {
    sentencepiece::SentencePieceProcessor processor;
};

extern "C" sora_sentencepiece *sora_sentencepiece_open(const void *model, size_t bytes, char *message, size_t room)
{
    sora_sentencepiece *opened = nullptr;
    try {
        opened = new sora_sentencepiece;
        auto status = opened->processor.LoadFromSerializedProto({ static_cast<const char *>(model), bytes });
        if (status.ok()) return opened;
        snprintf(message, room, "%s", status.ToString().c_str());
    } catch (...) {
        snprintf(message, room, "not enough memory");
    }
    delete opened;
    return nullptr;
}

extern "C" void sora_sentencepiece_close(sora_sentencepiece *model)
{
    delete model;
}

extern "C" int sora_sentencepiece_size(const sora_sentencepiece *model)
{
    return model->processor.GetPieceSize();
}

extern "C" void sora_sentencepiece_specials(const sora_sentencepiece *model, int out[3])
{
    out[0] = model->processor.pad_id();
    out[1] = model->processor.eos_id();
    out[2] = model->processor.unk_id();
}

extern "C" int sora_sentencepiece_encode(const sora_sentencepiece *model, const char *text, size_t bytes, int32_t **ids,
                                         size_t *count)
{
    try {
        std::vector<int> found;
        if (!model->processor.Encode({ text, bytes }, &found).ok()) return -1;
        *ids = static_cast<int32_t *>(malloc((found.size() + 1) * sizeof **ids));
        if (!*ids) return -1;
        for (size_t i = 0; i < found.size(); i++) (*ids)[i] = found[i];
        *count = found.size();
        return 0;
    } catch (...) {
        return -1;
    }
}

extern "C" int sora_sentencepiece_decode(const sora_sentencepiece *model, const int32_t *ids, size_t count, char **text)
{
    try {
        std::string decoded;
        if (!model->processor.Decode(std::vector<int>(ids, ids + count), &decoded).ok()) return -1;
        *text = strdup(decoded.c_str());
        return *text ? 0 : -1;
    } catch (...) {
        return -1;
    }
}
