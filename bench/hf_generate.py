# SPDX-License-Identifier: Apache-2.0
"""Peer: generation by Transformers at T5-small's shape on the processor, random weights, random full-length sources.

  pip install torch transformers
  hf_generate.py [--beams 1,4] [--batch 8] [--source 256] [--new-tokens 32] [--runs 3] [--threads 2]

Every output gets all its new tokens: no end is taken before. Prints a line of JSON: median seconds of the runs behind the first and
tokens a second (batch * new tokens / seconds, encoder included), by number of beams."""
import argparse
import json
import os
import resource
import statistics
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--beams", default="1,4")
for name, value in (("batch", 8), ("source", 256), ("new-tokens", 32), ("runs", 3), ("threads", 2)):
    parser.add_argument("--" + name, type=int, default=value)
given = parser.parse_args()
os.environ.setdefault("OMP_NUM_THREADS", str(given.threads))

import torch
import transformers

torch.manual_seed(0)
torch.set_num_threads(given.threads)
model = transformers.T5ForConditionalGeneration(transformers.T5Config(
    vocab_size=32128, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_decoder_layers=6, num_heads=8, feed_forward_proj="relu",
    tie_word_embeddings=True, decoder_start_token_id=0)).eval()
source = torch.randint(2, 32000, (given.batch, given.source))
mask = torch.ones_like(source)


def generate(beams):
    out = model.generate(input_ids=source, attention_mask=mask, num_beams=beams, do_sample=False, use_cache=True,
                         min_new_tokens=given.new_tokens, max_new_tokens=given.new_tokens)
    assert out.shape == (given.batch, given.new_tokens + 1), out.shape


result = {"peer": "hf_generate", "torch": torch.__version__, "transformers": transformers.__version__, "batch": given.batch, "source": given.source,
          "new_tokens": given.new_tokens, "threads": given.threads, "parameters": sum(p.numel() for p in model.parameters()), "beams": {}}
for beams in map(int, given.beams.split(",")):
    times = []
    with torch.inference_mode():
        for _ in range(given.runs + 1):
            began = time.perf_counter()
            generate(beams)
            times.append(time.perf_counter() - began)
    seconds = statistics.median(times[1:])
    result["beams"][str(beams)] = {"seconds": seconds, "min": min(times[1:]), "max": max(times[1:]), "tokens_per_second": given.batch * given.new_tokens / seconds}
result["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps(result))
