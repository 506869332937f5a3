"""What a narrow state cache does over 10^5 tokens: fp16 and int8, to nearest and stochastic, against float64.

The recurrence is Mamba-2's decode step, S <- exp(dt A) S + dt x B^T and y = S C (arXiv 2405.21060), with the
state rounded after every token, as an engine without a ring of inputs does, or once in `--every` tokens, as
ours does. Heads differ in how long they remember: 1 / (dt |A|) from 10 to 10^5 tokens. Mamba-2's initial dt
of 0.001 to 0.1 and |A| of 1 to 16 give 0.6 to 1,000; trained heads go beyond. x and B have means, as
activations after SiLU do. All draws are Philox's or a seeded generator's, so a second run gives the same
figures.

Left out: a model around it (docs/guide/low-precision.md measures that too).

Run it: `python -m benchmarks.kernels.drift`; it takes about two minutes of one core, and for the pictures
matplotlib.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rolloom.kernels.ssd import rounding

ROOT = Path(__file__).resolve().parent.parent.parent
MEMORY = (10.0, 100.0, 1e3, 1e4, 1e5)
"""Tokens after which a head has forgotten all but 1 / e."""
HEAD_DIM, STATE = 8, 16
"""P and N: a head's state is one block of int8."""
MODES = ("fp16 nearest", "fp16 stochastic", "int8 nearest", "int8 stochastic", "fp32")
DRAWN = 256
"""Tokens whose inputs are drawn at a time."""


@dataclass(frozen=True)
class Drift:
    """Errors at marked tokens.

    Attributes:
        at: tokens fed.
        memory: of each head, in tokens.
        error: RMS error over RMS of the state, `[mode][mark][head]`.
        bias: mean error toward larger magnitude over mean magnitude, `[mode][mark][head]`.
        output: the same as `error`, of the outputs of the last `DRAWN` tokens.
    """

    at: list[int]
    memory: list[float]
    error: dict[str, list[list[float]]]
    bias: dict[str, list[list[float]]]
    output: dict[str, list[list[float]]]


def simulate(steps: int, every: int = 1, seed: int = 0, modes: Sequence[str] = MODES) -> Drift:
    """Run one recurrence in float64 and, on the same inputs, with states rounded by each of the modes.

    Args:
        steps: tokens, a multiple of `DRAWN`.
        every: tokens between two roundings of the state; what comes in between is exact to fp32.
        seed: of inputs and rounding.
        modes: of `MODES`.

    Raises:
        ValueError: steps is no multiple of `DRAWN`.
    """
    if steps < DRAWN or steps % DRAWN:
        raise ValueError(f"steps: expected a multiple of {DRAWN}, got {steps}")
    heads = len(MEMORY)
    generator = torch.Generator().manual_seed(seed)
    # dt varies from token to token as softplus of an activation does; A is what makes the mean decay right.
    dt_mean = torch.logspace(-1, -3, heads, dtype=torch.float64)
    rate = -1 / (dt_mean * torch.tensor(MEMORY, dtype=torch.float64))
    truth = torch.zeros(heads, HEAD_DIM, STATE, dtype=torch.float64)
    held = {mode: torch.zeros(heads, HEAD_DIM, STATE) for mode in modes}
    found = Drift([], list(MEMORY), *({mode: [] for mode in modes} for _ in range(3)))
    marks = _marks(steps)
    offsets = torch.arange(truth.numel()).view(truth.shape)
    for begin in range(0, steps, DRAWN):
        x = torch.randn(DRAWN, heads, HEAD_DIM, generator=generator) + 0.5
        b = torch.randn(DRAWN, STATE, generator=generator) + 0.5
        c = torch.randn(DRAWN, STATE, generator=generator)
        noise = torch.rand(DRAWN, heads, generator=generator, dtype=torch.float64)
        dt = dt_mean * (0.5 + noise)
        decay = (dt * rate).exp()[..., None, None]
        gain = (dt[..., None] * x)[..., None] * b[:, None, None]
        words = rounding.philox(
            torch.tensor(seed), offsets, (torch.arange(DRAWN) + begin)[:, None, None, None]
        )
        draws = rounding.uniform(words)
        narrow_decay, narrow_gain = decay.float(), gain.float()
        outputs: dict[str, list[torch.Tensor]] = {mode: [] for mode in ("", *modes)}
        for t in range(DRAWN):
            truth = truth * decay[t] + gain[t]
            outputs[""].append(truth @ c[t].double())
            for mode in modes:
                state = held[mode] * narrow_decay[t] + narrow_gain[t]
                held[mode] = _rounded(state, mode, draws[t]) if (begin + t + 1) % every == 0 else state
                outputs[mode].append(held[mode] @ c[t])
        if begin + DRAWN in marks:
            found.at.append(begin + DRAWN)
            for mode in modes:
                gap = held[mode].double() - truth
                found.error[mode].append(_ratio(gap, truth).tolist())
                toward = (gap * truth.sign()).mean((1, 2)) / truth.abs().mean((1, 2))
                found.bias[mode].append(toward.tolist())
                wanted = torch.stack(outputs[""], 1)
                off = torch.stack(outputs[mode], 1).double() - wanted
                found.output[mode].append(_ratio(off, wanted).tolist())
    return found


def _marks(steps: int) -> set[int]:
    """Return about 40 tokens, evenly spaced on a logarithmic scale."""
    spaced = torch.logspace(0, 1, 40, base=steps / DRAWN).round().long().tolist()
    return {DRAWN * mark for mark in spaced}


def _ratio(gap: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return (gap.square().mean((1, 2)) / truth.square().mean((1, 2))).sqrt()


def _rounded(state: torch.Tensor, mode: str, draws: torch.Tensor) -> torch.Tensor:
    """Return a state as it is read back from a cache."""
    kind, _, how = mode.partition(" ")
    draw = draws if how == "stochastic" else None
    if kind == "fp16":
        return rounding.to_half(state, draw).float()
    if kind == "int8":
        flat = None if draw is None else draw.flatten(1)
        return rounding.from_int8(*rounding.to_int8(state.flatten(1), flat)).view(state.shape)
    return state


def plot(found: Drift, every: int, stem: Path) -> list[Path]:
    """Draw the error over time of the longest memory, and over memories at the end, as PNG and SVG."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.hashsalt"] = "drift"
    looks: dict[str, dict[str, Any]] = {
        "fp16 nearest": {"color": "#c1443c", "ls": "-"}, "fp16 stochastic": {"color": "#2a6fb0", "ls": "-"},
        "int8 nearest": {"color": "#c1443c", "ls": "--"}, "int8 stochastic": {"color": "#2a6fb0", "ls": "--"},
        "fp32": {"color": "#777777", "ls": ":"},
    }  # fmt: skip
    figure = Figure(figsize=(11.5, 4.0), layout="constrained")
    panels = figure.subplots(1, 3)
    final: dict[str, Any] = {name: getattr(found, name) for name in ("error", "bias", "output")}
    for mode, look in looks.items():
        if mode not in found.error:
            continue
        panels[0].loglog(found.at, [row[-1] for row in final["error"][mode]], label=mode, **look)
        panels[1].semilogx(found.at, [100 * row[-1] for row in final["bias"][mode]], **look)
        panels[2].loglog(found.memory, final["output"][mode][-1], marker="o", ms=3, **look)
    panels[0].set(title=f"State, head that remembers {found.memory[-1]:,.0f} tokens", xlabel="tokens fed",
                  ylabel="RMS error / RMS of the state")  # fmt: skip
    panels[0].legend(frameon=False, fontsize=8)
    panels[1].set(title="Bias of the same head's state", xlabel="tokens fed",
                  ylabel="mean error, % of mean magnitude")  # fmt: skip
    panels[1].axhline(0, color="#cccccc", lw=0.8, zorder=0)
    panels[2].set(title=f"Outputs after {found.at[-1]:,} tokens", xlabel="tokens a head remembers",
                  ylabel="RMS error / RMS of the outputs")  # fmt: skip
    for panel in panels:
        panel.title.set_fontsize(10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25, lw=0.5)
    when = "every token" if every == 1 else f"every {every} tokens"
    figure.suptitle(f"State cache against float64, rounded after {when}", fontsize=11)
    paths = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    for path in paths:
        dated = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=130, metadata=dated)
    return paths


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate, write the figures as JSON, and draw them."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100_096, help=f"tokens, a multiple of {DRAWN}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, nargs="+", default=[1, 32], help="tokens between two roundings")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    kept = []
    for every in args.every:
        found = simulate(args.steps, every, args.seed)
        for path in plot(found, every, ROOT / "docs" / "assets" / f"state-drift-every-{every}"):
            print(path.relative_to(ROOT))
        for mode in MODES:
            row = {
                "name": "ssd_state_drift", "mode": mode, "tokens": found.at[-1], "every": every,
                "seed": args.seed, "memory": found.memory,
                "state_error": _short(found.error[mode][-1]), "state_bias": _short(found.bias[mode][-1]),
                "output_error": _short(found.output[mode][-1]),
            }  # fmt: skip
            kept.append(json.dumps(row))
            print(kept[-1])
    target = ROOT / "benchmarks" / "baselines" / "low_precision" / "state-drift.json"
    target.write_text("[\n" + ",\n".join(kept) + "\n]\n")
    return 0


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.3g}") for value in values]


if __name__ == "__main__":
    sys.exit(main())
