# SPDX-License-Identifier: Apache-2.0
"""What is measured and held against what: the rows of the table in their order. A bound is on the row's value; a row without one only
informs."""
import dataclasses


ENOUGH_ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Target:
    work: str
    at_most: bool  # the value must not be above (else: not below) the bounds
    target: float | None
    stretch: float | None
    unit: str  # of the value: "x" for a ratio, "%" for a share, "s", "ms", "instructions"
    take: str  # what would help where it is not met


ATTENTION = "The page's profile says where a step's time goes: products run nearest the device's rate, attention and what only moves bytes farthest."
CONVOLUTION = "Where few channels meet many pixels, loads bound the direct kernel: more outputs for each load of pixels. Transformed tiles are slower below 16 channels."
SMALL = "Time goes to memory here, not to arithmetic: an activation should be moved fewer times, by more fusion with its neighbours."
GENERATION = "Each token reads every weight of the decoder once: fewer launches a token, weights read in fewer bytes."
PACK = "Weights' gradients copy both operands, each work-item for itself: larger blocks for each, or copies that neighbours share."
ADAPTER = "Its own terms are 3 % of a product of 512 columns for each of t and y's second product, and for each of dt, the two sums and dx's: a pass (op/narrow) makes them at half a product's rate, as t's and dt's are sums over lanes."
GATE = "A gate takes one small launch for all layers, and a sum in the launch that makes an adapter's gradients: less than this machine's noise in most runs."
RANK = "dW_d reads x again whatever the rank, from far, and each adapter has a launch for its factors and one for its gradients."

TARGETS = {
    "gemm packed": Target("products, B packed, against OpenBLAS: worst shape", False, 1.0, None, "x", "Larger tiles or blocks of k where the worst shape is; soracl tune tries them."),
    "gemm share": Target("products, B packed, as a share of the multiply-add rate: worst shape", False, None, 0.8, "%", "Fewer loads for each multiply-add: a larger tile in registers, k in blocks that stay near."),
    "gemm packing": Target("products, packing included, against OpenBLAS: worst shape", False, 0.85, 1.0, "x", PACK),
    "adapter forward": Target("adapted linear, rank 16, forward: time against the bare one's, worst shape", True, 1.12, 1.08, "x", ADAPTER),
    "adapter backward": Target("adapted linear, rank 16, backward: time against the bare one's, worst shape", True, 1.25, 1.15, "x", ADAPTER),
    "conv large forward": Target("3 x 3 convolution, many channels, forward: worst of 5 shapes", False, 1.0, 1.5, "x", CONVOLUTION),
    "conv large backward_data": Target("3 x 3 convolution, many channels, gradient of data", False, 1.0, 1.5, "x", CONVOLUTION),
    "conv large backward_weights": Target("3 x 3 convolution, many channels, gradient of weights", False, 1.0, 1.5, "x", CONVOLUTION),
    "conv small forward": Target("3 x 3 convolution, shapes of unet-fc, forward: worst of 7", False, 1.0, 1.5, "x", CONVOLUTION),
    "conv small backward_data": Target("3 x 3 convolution, shapes of unet-fc, gradient of data", False, 1.0, 1.5, "x", CONVOLUTION),
    "conv small backward_weights": Target("3 x 3 convolution, shapes of unet-fc, gradient of weights", False, 1.0, 1.5, "x", CONVOLUTION),
    "t5 time": Target("T5-small step, SoRA, 256 / 32 tokens, batch 8: time against PEFT's LoRA", True, 0.5, 0.33, "x", ATTENTION),
    "t5 memory": Target("T5-small step, SoRA, 256 / 32: memory of the process against PEFT's", True, 0.4, None, "x", "Weights in half precision, activations made again on the way back."),
    "t5 share": Target("T5-small step, SoRA, 256 / 32: share of the multiply-add rate", False, None, 0.65, "%", ATTENTION),
    "t5-long time": Target("T5-small step, SoRA, 512 / 64 tokens, batch 8, --recompute: time against PEFT's LoRA", True, 0.5, 0.33, "x", ATTENTION),
    "t5-long memory": Target("T5-small step, SoRA, 512 / 64, --recompute: memory of the process against PEFT's", True, 0.4, None, "x", "Weights in half precision."),
    "t5-full time": Target("T5-small step, full fine-tuning, 256 / 32: time against PyTorch", True, 0.7, None, "x", ATTENTION),
    "unet-fc 8 full": Target("unet-fc step, full, batch 8: time against PyTorch's best", True, 0.5, 0.33, "x", SMALL),
    "unet-fc 8 adapter": Target("unet-fc step, SoRA, batch 8: time against PyTorch's best, LoRA", True, 0.5, 0.33, "x", SMALL),
    "unet-fc 32 full": Target("unet-fc step, full, batch 32: time against PyTorch's best", True, 0.5, 0.33, "x", SMALL),
    "unet-fc 32 adapter": Target("unet-fc step, SoRA, batch 32: time against PyTorch's best, LoRA", True, 0.5, 0.33, "x", SMALL),
    "unet full": Target("unet step, width 32, 128 x 128, full, batch 8: time against PyTorch's best", True, 1.0, 0.7, "x", CONVOLUTION),
    "unet adapter": Target("unet step, width 32, 128 x 128, SoRA, batch 8: time against PyTorch's best, LoRA", True, 1.0, 0.7, "x", CONVOLUTION),
    "sora-lora t5-small": Target("T5-small step, our SoRA: time against our LoRA", True, 1.0, None, "x", GATE),
    "sora-lora compacted t5-small": Target("T5-small step, our SoRA compacted to a quarter of the rank: time against our LoRA", True, None, 1.0, "x", GATE),
    "sora-lora unet-fc": Target("unet-fc step, our SoRA: time against our LoRA", True, 1.0, None, "x", GATE),
    "sora-lora compacted unet-fc": Target("unet-fc step, our SoRA compacted to a quarter of the rank: time against our LoRA", True, None, 1.0, "x", GATE),
    "rank": Target("adapters' time after compaction from rank 16 to 4, over the adapted linears' shapes", True, 1 / 3, None, "x", RANK),
    "rank step": Target("adapters' share of a T5-small step after compaction from rank 16 to 4, of what it was", True, 1 / 3, None, "x", RANK),
    "plan": Target("graphs for 8 lengths of T5-small planned on the host", True, 50.0, None, "ms", "Fewer passes over the tensors while planning."),
    "generate greedy": Target("T5-small, greedy, batch 8: tokens a second against Transformers", False, 2.0, None, "x", GENERATION),
    "generate beams": Target("T5-small, 4 beams, batch 8: tokens a second against Transformers", False, 2.0, None, "x", GENERATION),
    "start warm": Target("t5 finetune with warm caches: until the first step, T5-small", True, 1.0, 0.4, "s", "Reading and packing 240 MB of weights while kernels load."),
    "start first": Target("t5 finetune with empty caches, kernels compiled: until the first step, T5-small", True, 20.0, 8.0, "s", "PoCL builds programs and compiles kernels one at a time: fewer of either, or less in them."),
    "host t5-small": Target("launches' share of a step of T5-small: their number times an empty one", True, 0.03, None, "%", "Fewer launches: fusion."),
    "host unet-fc": Target("launches' share of a step of unet-fc", True, 0.03, None, "%", "Fewer launches: fusion."),
    "instructions t5-small": Target("instructions of the host for a step of T5-small (callgrind)", True, None, None, "instructions", ""),
    "instructions unet-fc": Target("instructions of the host for a step of unet-fc (callgrind)", True, None, None, "instructions", ""),
}


def reached(target, bound, value):
    """None where there is no bound or no value."""
    if bound is None or value is None:
        return None
    return value <= bound if target.at_most else value >= bound


def format_value(value, unit):
    if value is None:
        return "–"
    if unit == "%":
        return f"{100 * value:.1f} %" if value < 0.1 else f"{100 * value:.0f} %"
    if unit == "instructions":
        return f"{value / 1e6:.2f} M"
    return f"{value:.2f} ×" if unit == "x" else f"{value:.1f} {unit}" if unit == "ms" else f"{value:.2f} {unit}"


def format_spread(row, unit):
    """Between what a value lay; and over how few rounds, where that is not enough for a spread."""
    rounds = row.get("rounds", ENOUGH_ROUNDS)
    few = f"{rounds} round{'s' if rounds > 1 else ''}" if rounds < ENOUGH_ROUNDS else ""
    between = f"{format_value(row['low'], unit)} to {format_value(row['high'], unit)}" if row.get("low") is not None and rounds > 1 else ""
    return ", ".join(text for text in (between, few) if text)


def format_bound(target, bound):
    return "" if bound is None else ("≤ " if target.at_most else "≥ ") + format_value(bound, target.unit)


def take(target, value, seconds, share):
    """One line on what would meet the first bound that is not; seconds and share: of our step, where it is one."""
    missed = [bound for bound in (target.target, target.stretch) if reached(target, bound, value) is False]
    if not missed:
        return ""
    bound = missed[0]
    name = "target" if bound == target.target else "stretch"
    factor = bound / value if target.at_most else value / bound
    line = f"{name}: {100 * (1 - factor):.0f} % less" if target.at_most else f"{name}: {1 / factor:.2f} times as fast"
    if seconds:
        line += f", {seconds:.3f} s to {seconds * factor:.3f} s"
    if seconds and share:
        line += f", or {100 * share / factor:.0f} % of the multiply-add rate instead of {100 * share:.0f} %"
    return f"{line}. {target.take}"
