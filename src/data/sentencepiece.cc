/* SPDX-License-Identifier: Apache-2.0 */
#include "data/sentencepiece.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

struct sora_sentencepiece {
    sentencepiece::SentencePieceProcessor processor;
};

/* ---- What the library believes ----------------------------------------------------------------------------------- */

namespace
{

struct Bytes {
    const unsigned char *at;
    size_t left;
};

bool take_number(Bytes &from, uint64_t &number)
{
    number = 0;
    for (int shift = 0; shift < 64 && from.left > 0; shift += 7) {
        unsigned char byte = *from.at++;
        from.left--;
        number |= static_cast<uint64_t>(byte & 127) << shift;
        if (byte < 128) return true;
    }
    return false;
}

/* Takes one field off a message of protobuf: field number * 8 + kind, and its bytes; where it is a number, those of its varint. */
bool take_field(Bytes &message, uint64_t &tag, Bytes &content)
{
    uint64_t size = 0;
    if (!take_number(message, tag) || tag > UINT32_MAX) return false;
    content = message;
    switch (tag & 7) {
    case 0: return take_number(message, size);
    case 1: size = 8; break;
    case 2:
        if (!take_number(message, size)) return false;
        break;
    case 5: size = 4; break;
    default: return false; /* groups, which models do not have */
    }
    if (size > message.left) return false;
    content = { message.at, size };
    message.at += size;
    message.left -= size;
    return true;
}

/* Where the nodes below a node of a Darts double array stand, each at this ^ its byte. */
size_t below(const std::vector<uint32_t> &trie, size_t node)
{
    return node ^ static_cast<size_t>(trie[node] >> 10) << ((trie[node] & 512) >> 6);
}

/* The bytes of a trie, the trie, texts that end with NUL. NormalizePrefix goes wherever the trie says, and has room for 32 texts on
 * one way through it. */
bool charsmap_is_sound(Bytes map)
{
    uint32_t size;
    if (map.left < sizeof size) return false;
    memcpy(&size, map.at, sizeof size);
    if (size == 0 || size % 4 != 0 || size > map.left - sizeof size) return false;
    std::vector<uint32_t> trie(size / 4);
    memcpy(trie.data(), map.at + sizeof size, size);
    size_t texts = map.left - sizeof size - size;
    if (texts > 0 && map.at[map.left - 1] != '\0') return false;
    for (size_t node = 0; node < trie.size(); node++) {
        if (node > 0 && trie[node] >> 31) continue; /* no node but where a text begins */
        if ((below(trie, node) | 255) >= trie.size()) return false;
        if (trie[node] & 256 && (trie[below(trie, node)] & INT32_MAX) >= texts) return false;
    }
    std::vector<char> reached(trie.size()), next;
    reached[below(trie, 0)] = 1;
    for (int depth = 0; depth < 32; depth++) {
        bool deeper = false;
        next.assign(trie.size(), 0);
        for (size_t node = 0; node < trie.size(); node++) {
            size_t above = node ^ (trie[node] & 255);
            if (trie[node] >> 31 || above >= trie.size() || !reached[above]) continue;
            next[below(trie, node)] = deeper = true;
        }
        if (!deeper) return true;
        reached.swap(next);
    }
    return false;
}

/* Where texts look for pieces that a user defined there is room for 64 found at one place, one of each length. */
bool piece_is_sound(Bytes piece)
{
    enum { TEXT = 1 * 8 + 2, TYPE = 3 * 8, USER_DEFINED = 4 };
    uint64_t tag, type;
    size_t longest = 0;
    bool defined = false;
    while (piece.left > 0) {
        Bytes content;
        if (!take_field(piece, tag, content)) return false;
        if (tag == TEXT) longest = std::max(longest, content.left);
        if (tag == TYPE) defined |= take_number(content, type) && static_cast<uint32_t>(type) == USER_DEFINED;
    }
    return !defined || longest <= 64;
}

/* Both ModelProto's normalizer_spec and its denormalizer_spec have a precompiled_charsmap. */
bool spec_is_sound(Bytes spec)
{
    enum { CHARSMAP = 2 * 8 + 2 };
    uint64_t tag;
    while (spec.left > 0) {
        Bytes map;
        if (!take_field(spec, tag, map)) return false;
        if (tag == CHARSMAP && map.left > 0 && !charsmap_is_sound(map)) return false;
    }
    return true;
}

bool model_is_sound(Bytes model)
{
    enum { PIECE = 1 * 8 + 2, NORMALIZER = 3 * 8 + 2, DENORMALIZER = 5 * 8 + 2 };
    uint64_t tag;
    while (model.left > 0) {
        Bytes part;
        if (!take_field(model, tag, part)) return false;
        if (tag == PIECE && !piece_is_sound(part)) return false;
        if ((tag == NORMALIZER || tag == DENORMALIZER) && !spec_is_sound(part)) return false;
    }
    return true;
}

} // namespace

/* ---- Tokens ------------------------------------------------------------------------------------------------------ */

extern "C" sora_sentencepiece *sora_sentencepiece_open(const void *model, size_t bytes, char *message, size_t room)
{
    sora_sentencepiece *opened = nullptr;
    try {
        if (!model_is_sound({ static_cast<const unsigned char *>(model), bytes })) {
            snprintf(message, room, "it ends too early, or its precompiled_charsmap or a piece is broken");
            return nullptr;
        }
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
    /* The library's own Status, or Abseil's in newer ones. */
    decltype(std::declval<sentencepiece::SentenceIterator>().status()) status() const override
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
