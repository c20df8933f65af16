# SPDX-License-Identifier: Apache-2.0
"""Peer: 3x3 convolutions in PyTorch (oneDNN) on the processor: forward, backward-data, backward-weights, contiguous and channels_last.

  torch_conv.py [--threads 2] [--seconds 0.3] N,H,W,CIN,COUT ...

Prints a line of JSON a shape: median seconds of each pass in each format. The backward passes are measured by themselves, as
torch.nn.grad's conv2d_input and conv2d_weight call them."""
import argparse
import json
import statistics
import time

parser = argparse.ArgumentParser()
parser.add_argument("shapes", nargs="+")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--seconds", type=float, default=0.3)
given = parser.parse_args()

import torch

torch.set_num_threads(given.threads)


def median(call):
    call()
    times, began = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - began < given.seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def backward(which, dy, x, w):
    return lambda: torch.ops.aten.convolution_backward(dy, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [which == 0, which == 1, False])


for text in given.shapes:
    n, h, width, inputs, outputs = map(int, text.split(","))
    row = {"shape": [n, h, width, inputs, outputs], "flops": 18.0 * n * h * width * inputs * outputs, "torch": torch.__version__}
    for name, layout in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        x, dy, w = (torch.rand(shape).to(memory_format=layout) for shape in ((n, inputs, h, width), (n, outputs, h, width), (outputs, inputs, 3, 3)))
        with torch.no_grad():
            row[name] = {"forward": median(lambda: torch.conv2d(x, w, padding=1)), "backward_data": median(backward(0, dy, x, w)),
                         "backward_weights": median(backward(1, dy, x, w))}
    print(json.dumps(row), flush=True)
