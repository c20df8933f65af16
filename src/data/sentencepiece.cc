/* SPDX-License-Identifier: Apache-2.0 */
#include "data/sentencepiece.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>
#include <string>
#include <unordered_map>
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

/* ---- Training ---------------------------------------------------------------------------------------------------- */

namespace
{

class Parts : public sentencepiece::SentenceIterator
{
  public:
    Parts(const sora_text_part *parts, size_t count) : next(parts), end(parts + count)
    {
        load();
    }
    bool done() const override
    {
        return next == end;
    }
    void Next() override
    {
        next++;
        load();
    }
    const std::string &value() const override
    {
        return current;
    }
    sentencepiece::util::Status status() const override
    {
        return {};
    }

  private:
    void load()
    {
        if (next != end) current.assign(next->text, next->bytes);
    }
    const sora_text_part *next, *end;
    std::string current;
};

} // namespace

extern "C" int sora_sentencepiece_train(const sora_text_part *parts, size_t count, int size, double coverage, void **model,
                                        size_t *bytes, char *message, size_t room)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++) total += parts[i].bytes + 2;
    try {
        /* As the settings inside T5's spiece.model. One thread: floating-point sums in one order. A log level of 3 is silence. */
        const std::unordered_map<std::string, std::string> settings = {
            { "model_type", "unigram" },
            { "vocab_size", std::to_string(size) },
            { "hard_vocab_limit", "false" },
            { "character_coverage", std::to_string(coverage) },
            { "normalization_rule_name", "nmt_nfkc" },
            { "add_dummy_prefix", "true" },
            { "remove_extra_whitespaces", "true" },
            { "byte_fallback", "false" },
            { "pad_id", "0" },
            { "eos_id", "1" },
            { "unk_id", "2" },
            { "bos_id", "-1" },
            { "num_threads", "1" },
            /* 64-bit indices where one byte might, at NFKC's worst, become six characters too many for 32 bits. */
            { "train_extremely_large_corpus", total > INT32_MAX / 6 ? "true" : "false" },
            { "minloglevel", "3" },
        };
        Parts iterator(parts, count);
        std::string trained;
        auto status = sentencepiece::SentencePieceTrainer::Train(settings, &iterator, &trained);
        if (!status.ok()) {
            /* "Internal: src/file.cc(12) [condition] words": the words, where there are any. */
            std::string text = status.ToString();
            size_t words = text.find("] ");
            snprintf(message, room, "%s", text.c_str() + (words != std::string::npos && words + 2 < text.size() ? words + 2 : 0));
            return -1;
        }
        *model = malloc(trained.size());
        if (*model) {
            memcpy(*model, trained.data(), trained.size());
            *bytes = trained.size();
            return 0;
        }
    } catch (...) {
    }
    snprintf(message, room, "not enough memory");
    return -1;
}
