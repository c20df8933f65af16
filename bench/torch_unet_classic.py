# SPDX-License-Identifier: Apache-2.0
"""Peer: one training step of the classic U-Net (soracl's model `unet`) in plain PyTorch on the processor.

  pip install torch
  torch_unet_classic.py --mode full|lora|sora [--width 32] [--size 128] [--batch 8] [--rank 16] [--channels-last] [--compile] [--steps 7]

Four levels of width, 2, 4 and 8 times width, each two (3x3 convolution without bias, batch norm, ReLU) and a 2x2 max-pool; a bottleneck
of 16 times width; four stages of a 2x2 transposed convolution, the skip beside it, two convolutions as above; a 1x1 convolution gives a
logit a pixel. In lora and sora the bottleneck's two convolutions get adapters (a 3x3 convolution to r channels, a gate, a 1x1 one) and
nothing else is trained; batch norm keeps to batch statistics. Loss: binary cross-entropy + Dice. Prints a line of JSON: median seconds
of the steps behind the first two."""
import argparse
import json
import os
import resource
import statistics
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--mode", default="full", choices=("full", "lora", "sora"))
for name, value in (("width", 32), ("size", 128), ("batch", 8), ("rank", 16), ("steps", 7), ("threads", 2)):
    parser.add_argument("--" + name, type=int, default=value)
parser.add_argument("--xi", type=float, default=1e-5)
parser.add_argument("--channels-last", action="store_true")
parser.add_argument("--compile", action="store_true")
given = parser.parse_args()
os.environ.setdefault("OMP_NUM_THREADS", str(given.threads))

import torch
from torch import nn
from torch.nn import functional

DEPTH = 4


def block(inputs, outputs):
    layers = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Adapted(nn.Module):
    def __init__(self, base, rank, gated):
        super().__init__()
        self.base = base
        self.down = nn.Conv2d(base.in_channels, rank, 3, padding=1, bias=False)
        self.up = nn.Conv2d(rank, base.out_channels, 1, bias=False)
        nn.init.zeros_(self.up.weight)
        self.gate = nn.Parameter(torch.randn(rank)) if gated else None

    def forward(self, x):
        t = self.down(x)
        return self.base(x) + self.up(t if self.gate is None else t * self.gate[:, None, None])


class UNet(nn.Module):
    def __init__(self, width):
        super().__init__()
        channels = [width << level for level in range(DEPTH + 1)]
        self.encoder = nn.ModuleList(block(i, o) for i, o in zip([3] + channels, channels[:DEPTH]))
        self.bottleneck = block(channels[DEPTH - 1], channels[DEPTH])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, 2) for c in reversed(channels[:DEPTH]))
        self.decoder = nn.ModuleList(block(2 * c, c) for c in reversed(channels[:DEPTH]))
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        skips = []
        for level in self.encoder:
            skips.append(level(x))
            x = functional.max_pool2d(skips[-1], 2)
        x = self.bottleneck(x)
        for up, level in zip(self.up, self.decoder):
            x = level(torch.cat((up(x), skips.pop()), 1))
        return self.head(x)


def loss_of(logits, mask):
    p = logits.sigmoid()
    dice = 1 - (2 * (p * mask).sum() + 1) / ((p * p).sum() + (mask * mask).sum() + 1)
    return dice + functional.binary_cross_entropy_with_logits(logits, mask)


torch.manual_seed(0)
torch.set_num_threads(given.threads)
model, gates = UNet(given.width), []
parameters = sum(p.numel() for p in model.parameters())
if given.mode != "full":
    model.requires_grad_(False)
    for i in (0, 3):
        model.bottleneck[i] = Adapted(model.bottleneck[i], given.rank, given.mode == "sora")
        gates += [] if model.bottleneck[i].gate is None else [model.bottleneck[i].gate]
model.train()
image = torch.rand(given.batch, 3, given.size, given.size)
mask = (torch.rand(given.batch, 1, given.size, given.size) < 0.08).float()
if given.channels_last:
    model = model.to(memory_format=torch.channels_last)
    image = image.to(memory_format=torch.channels_last)
weights = [p for p in model.parameters() if p.requires_grad and not any(p is gate for gate in gates)]
optimizer = torch.optim.AdamW([{"params": weights}] + ([{"params": gates, "weight_decay": 0.0}] if gates else []), lr=1e-4)
run = torch.compile(model) if given.compile else model
times = []
for _ in range(given.steps):
    began = time.perf_counter()
    loss = loss_of(run(image), mask)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        for gate in gates:
            gate.copy_(functional.softshrink(gate, given.xi))
    loss = loss.item()
    times.append(time.perf_counter() - began)
print(json.dumps({"peer": "torch_unet_classic", "torch": torch.__version__, "mode": given.mode, "width": given.width, "size": given.size, "batch": given.batch,
                  "rank": given.rank, "channels_last": given.channels_last, "compile": given.compile, "threads": given.threads,
                  "step_s": statistics.median(times[2:]), "min_s": min(times[2:]), "max_s": max(times[2:]), "all_s": times, "parameters": parameters,
                  "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad), "loss": loss,
                  "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
