# SPDX-License-Identifier: Apache-2.0
"""The table as one HTML page that needs nothing else: targets met or not, a roofline for each profiled step with its kernels as dots, and
the step's time by op. `page.py BENCH.json PAGE.html`; `./dev bench --html` calls it."""
import html
import json
import math
import pathlib
import sys

from targets import TARGETS, format_bound, format_spread, format_value

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d6dce4; --paper: #ffffff; --panel: #f4f6f9; --good: #1b7f4b; --bad: #b3261e; --roof: #1c2430;
  --c0: #2f6fb3; --c1: #c2571a; --c2: #3c8a3f; --c3: #8a4fb0; --c4: #b08a00; --c5: #13868c; --c6: #b03a66; --c7: #66707c; --on: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa5b3; --line: #353d49; --paper: #14181e; --panel: #1c222a; --good: #5fd396; --bad: #ff8a80; --roof: #e6eaf0;
  --c0: #7fb2ea; --c1: #f0975c; --c2: #7fcb82; --c3: #c797e8; --c4: #dcb93f; --c5: #58c6cc; --c6: #ee86ab; --c7: #a3adb9; --on: #10141a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 3rem; max-width: 75rem; font: 16px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; } h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .3rem 0; color: var(--soft); } p b { color: var(--ink); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; } th { text-align: left; color: var(--soft); font-weight: 500; }
td, th { padding: .4rem .6rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; } td.n, th.n { text-align: right; white-space: nowrap; }
td small { display: block; color: var(--soft); } .good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; } .plain { color: var(--soft); }
svg { display: block; width: 100%; height: auto; background: var(--panel); border-radius: 6px; margin: .4rem 0; } svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } svg .on { fill: var(--on); font-size: 12px; } .narrow { display: none; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .9rem; } .key i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .35em; }
@media (max-width: 700px) { .wide { display: none; } .narrow { display: block; } body { padding: .8rem .8rem 2rem; }
  table.targets, table.targets tbody { display: block; } table.targets tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  table.targets thead { display: none; } table.targets td { display: inline-block; border: 0; padding: 0 .8rem 0 0; } table.targets td:first-child { display: block; }
  table.targets td.n small { display: inline; margin-left: .4rem; }
  table.targets td[data-name]:not(:empty)::before { content: attr(data-name) " "; color: var(--soft); }
  table.ops { font-size: .8rem; } table.ops td:first-child { white-space: nowrap; } table.ops .extra { display: none; } }
"""


def escape(text):
    return html.escape(str(text))


def colors_of(profile):
    """Ops in order of their time, the first seven with a colour of their own."""
    seconds = {}
    for row in profile["launches"]:
        seconds[row["op"]] = seconds.get(row["op"], 0) + row["seconds"]
    order = sorted(seconds, key=lambda op: -seconds[op])
    return {op: f"var(--c{min(i, 7)})" for i, op in enumerate(order)}


# ---- The table ----------------------------------------------------------------------------------------------------------------------


def state(row):
    if row.get("value") is None:
        return "plain", "not measured"
    if row["met"] is False:
        return "bad", "not met"
    if row["stretch_met"]:
        return "good", "stretch met"
    if row["met"]:
        return "good", "met"
    return ("plain", "") if row["stretch_met"] is None else ("bad", "stretch not met")


def target_rows(data):
    for key, target in TARGETS.items():
        row = data["rows"].get(key)
        if not row:
            continue
        spread = format_spread(row, target.unit) if row.get("value") is not None else ""
        kind, text = state(row)
        notes = [t for t in (sides(row), row.get("note"), row["take"]) if t]
        yield (f"<tr><td>{escape(target.work)}{''.join(f'<small>{escape(note)}</small>' for note in notes)}</td>"
               f"<td class=n data-name=measured>{escape(format_value(row.get('value'), target.unit))}<small>{escape(spread)}</small></td>"
               f"<td class=n data-name=target>{escape(format_bound(target, row['target']))}</td><td class=n data-name=stretch>{escape(format_bound(target, row['stretch']))}</td>"
               f"<td class={kind}>{text}</td></tr>")


def sides(row):
    if row.get("ours") is None:
        return row.get("peer_name", "") and f"beside {row['peer_name']}"
    show = lambda value: f"{100 * value:.1f} %" if row["figure"] == "%" else f"{value:.0f} {row['figure']}" if value >= 10 else f"{value:.3f} {row['figure']}"
    return f"ours {show(row['ours'])}" + (f", {row['peer_name']} {show(row['peer'])}" if row.get("peer") is not None else "")


# ---- Roofline -----------------------------------------------------------------------------------------------------------------------


def ticks(low, high):
    """Round numbers between 10^low and 10^high."""
    values = [step * 10.0 ** power for power in range(math.floor(low), math.ceil(high) + 1) for step in (1, 2, 5)]
    return [value for value in values if low <= math.log10(value) <= high]


def roofline(profile, limits, colors, width, kind):
    """Log-log: operations a byte against operations a second; a dot for each kernel at a place of the network, as large as its time."""
    height, left, right, top, bottom = (420, 62, 18, 18, 44) if width > 500 else (330, 44, 10, 14, 40)
    rows = [row for row in profile["launches"] if row["flops"] and row["bytes"]]
    total = sum(row["seconds"] for row in profile["launches"])
    peak, rate = limits["flops_per_second"], limits["bytes_per_second"]
    xs = [row["flops"] / row["bytes"] for row in rows] + [peak / rate]
    ys = [row["flops"] / row["seconds"] for row in rows] + [peak]
    x0, x1, y0, y1 = math.log10(min(xs) / 1.6), math.log10(max(xs) * 1.6), math.log10(min(ys) / 1.6), math.log10(max(ys) * 1.6)
    x = lambda value: left + (math.log10(value) - x0) / (x1 - x0) * (width - left - right)
    y = lambda value: height - bottom - (math.log10(value) - y0) / (y1 - y0) * (height - top - bottom)
    out = [f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="roofline">']
    for value in ticks(x0, x1):
        out.append(f'<line x1="{x(value):.1f}" y1="{top}" x2="{x(value):.1f}" y2="{height - bottom}" stroke="var(--line)"/>'
                   f'<text class="soft" text-anchor="middle" x="{x(value):.1f}" y="{height - bottom + 16}">{value:g}</text>')
    for value in ticks(y0, y1):
        out.append(f'<line x1="{left}" y1="{y(value):.1f}" x2="{width - right}" y2="{y(value):.1f}" stroke="var(--line)"/>'
                   f'<text class="soft" text-anchor="end" x="{left - 6}" y="{y(value) + 4:.1f}">{1e-9 * value:g}</text>')
    start = max(10 ** x0, 10 ** y0 / rate)
    out.append(f'<polyline fill="none" stroke="var(--roof)" stroke-width="2" points="{x(start):.1f},{y(start * rate):.1f} {x(peak / rate):.1f},{y(peak):.1f} {width - right},{y(peak):.1f}"/>')
    for row in rows:
        intensity, speed = row["flops"] / row["bytes"], row["flops"] / row["seconds"]
        radius = 3 + 16 * math.sqrt(row["seconds"] / total) * (1 if width > 500 else 0.7)
        out.append(f'<circle cx="{x(intensity):.1f}" cy="{y(speed):.1f}" r="{radius:.1f}" fill="{colors[row["op"]]}" fill-opacity="0.65" stroke="{colors[row["op"]]}">'
                   f'<title>{escape(row["kernel"])}, {escape(row["place"])}: {1e3 * row["seconds"]:.2f} ms, {1e-9 * speed:.1f} GFLOP/s at {intensity:.1f} a byte</title></circle>')
    out.append(f'<text x="{width - right - 4}" y="{y(peak) - 7:.1f}" text-anchor="end">{1e-9 * peak:.0f} GFLOP/s</text>')
    middle = math.sqrt(start * peak / rate)
    out.append(f'<text x="{x(middle) - 8:.1f}" y="{y(middle * rate) - 8:.1f}" text-anchor="end">{1e-9 * rate:.1f} GB/s</text>')
    out.append(f'<text class="soft" x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle">operations a byte; upwards GFLOP/s</text></svg>')
    return "".join(out)


# ---- The step by op -----------------------------------------------------------------------------------------------------------------


def nested(profile):
    """{op: {kernel: {place: seconds}}} in order of time."""
    tree = {}
    for row in profile["launches"]:
        tree.setdefault(row["op"], {}).setdefault(row["kernel"], {})
        tree[row["op"]][row["kernel"]][row["place"]] = row["seconds"]
    weight = lambda node: node if not isinstance(node, dict) else sum(weight(child) for child in node.values())
    order = lambda node: node if not isinstance(node, dict) else {name: order(child) for name, child in sorted(node.items(), key=lambda item: -weight(item[1]))}
    return order(tree), weight


def flame(profile, colors, width, kind):
    """The step on top; below it ops, their kernels, and the places of the network that launch them, each as wide as its time."""
    tree, weight = nested(profile)
    total, row_height = weight(tree), 30
    out = [f'<svg class="{kind}" viewBox="0 0 {width} {4 * row_height + 6}" role="img" aria-label="step by op">']

    def box(name, node, left, depth, color):
        size = weight(node) / total * (width - 6)
        if size < 0.6:
            return
        opacity = 1 - 0.12 * max(depth - 1, 0)
        out.append(f'<g><title>{escape(name)}: {1e3 * weight(node):.2f} ms, {100 * weight(node) / total:.1f} %</title><rect x="{left:.1f}" y="{3 + depth * row_height}" '
                   f'width="{max(size - 1, 0.5):.1f}" height="{row_height - 2}" rx="2" fill="{color}" fill-opacity="{opacity:.2f}"/>')
        room = int((size - 10) / 6.9)
        if room >= min(len(name), 4):
            text = name if len(name) <= room else "…" + name[1 - room:]
            out.append(f'<text class="on" x="{left + 5:.1f}" y="{3 + depth * row_height + 19}">{escape(text)}</text>')
        out.append("</g>")
        for child, below in node.items() if isinstance(node, dict) else ():
            box(child, below, left, depth + 1, colors.get(child, color) if depth == 0 else color)
            left += weight(below) / total * (width - 6)

    box(f"a step: {1e3 * total:.1f} ms in kernels", tree, 3, 0, "var(--soft)")
    return "".join(out) + "</svg>"


def op_table(profile, limits, colors):
    total, rows = sum(row["seconds"] for row in profile["launches"]), {}
    for row in profile["launches"]:
        sum_of = rows.setdefault(row["op"], {"seconds": 0, "launches": 0, "flops": 0, "bytes": 0})
        for name in sum_of:
            sum_of[name] += row[name]
    out = ['<table class="ops"><thead><tr><th>op<th class=n>ms<th class=n>of the step<th class="n extra">launches<th class="n extra">GFLOP/s<th class=n>of the peak'
           '<th class="n extra">GB/s<th class="n extra">of a copy</tr></thead><tbody>']
    for op, row in sorted(rows.items(), key=lambda item: -item[1]["seconds"]):
        speed, traffic = row["flops"] / row["seconds"], row["bytes"] / row["seconds"]
        cells = [f'{1e3 * row["seconds"]:.2f}', f'{100 * row["seconds"] / total:.1f} %', f'{row["launches"]:.0f}', speed and f"{1e-9 * speed:.0f}",
                 speed and f'{100 * speed / limits["flops_per_second"]:.0f} %', traffic and f"{1e-9 * traffic:.1f}", traffic and f'{100 * traffic / limits["bytes_per_second"]:.0f} %']
        extra = ("", "", " extra", " extra", "", " extra", " extra")
        out.append(f'<tr><td><span style="color:{colors[op]}">■</span> {escape(op)}' + "".join(f'<td class="n{kind}">{cell or ""}' for kind, cell in zip(extra, cells)) + "</tr>")
    return "".join(out) + "</tbody></table>"


def profile_section(name, profile):
    step, colors, limits = profile["step"], colors_of(profile), profile["step"]["limits"]
    lengths = f"{step['source']} / {step['target']} tokens" if name == "t5-small" else f"{step['size']} × {step['size']}"
    return (f"<h2>A step of {escape(name)} ({escape(step['method'])}, batch {step['batch']}, {lengths})</h2><p><b>{step['seconds_per_step']:.4f} s</b>, "
            f"{1e-9 * step['flops']:.1f} GFLOP in {step['launches']} launches: <b>{100 * step['share_of_peak']:.0f} %</b> of the multiply-add rate</p>"
            "<h3>Roofline</h3><p>A dot is a kernel at a place of the network, as large as its share of the time. Under the slope memory bounds it, under the level arithmetic.</p>"
            + roofline(profile, limits, colors, 1100, "wide") + roofline(profile, limits, colors, 360, "narrow")
            + "<h3>By op, kernel and place</h3>" + flame(profile, colors, 1100, "wide") + flame(profile, colors, 360, "narrow") + op_table(profile, limits, colors))


def render(data):
    device, limits = data["device"], data["limits"]
    peers = ", ".join(f"{name} {version}" for name, version in data["peers"].items())
    return ("<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width, initial-scale=1'><title>soracl bench</title>"
            f"<style>{STYLE}</style><h1>soracl {escape(data['version'])}: measured</h1><p>{escape(device['name'])}, {escape(device['platform'])} {escape(device['driver'])}, "
            f"{data['cores']} cores{'; beside ' + escape(peers) if peers else ''}</p><p><b>{1e-9 * limits['flops_per_second']:.0f} GFLOP/s</b> multiply-adds from registers, "
            f"<b>{1e-9 * limits['bytes_per_second']:.1f} GB/s</b> copied, <b>{1e6 * limits['launch_seconds']:.1f} µs</b> an empty launch</p>"
            "<h2>Targets</h2><p>Medians; the range is over rounds in which ours and the peer's ran in turn.</p><table class=targets><thead><tr><th>work<th class=n>measured"
            f"<th class=n>target<th class=n>stretch<th></tr></thead><tbody>{''.join(target_rows(data))}</tbody></table>"
            + "".join(profile_section(name, profile) for name, profile in data["profiles"].items()))


if __name__ == "__main__":
    pathlib.Path(sys.argv[2]).write_text(render(json.loads(pathlib.Path(sys.argv[1]).read_text())))
