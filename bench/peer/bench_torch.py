#!/usr/bin/env python3
"""The peer of `dagline bench unet`: the same UNet in PyTorch, with the same three measurements.

  forward  the network's output, no gradients
  full     forward and backward of mean(output^2), gradients of every weight
  lora     the same with adapters of rank 4 on the attention projections, which alone have gradients

Needs Debian's python3-torch and diffusers 0.14.0 on PYTHONPATH.  Prints one JSON line with seconds:
the quickest and the median of the timed runs, after one that is not counted.
"""

import argparse
import importlib.util
import json
import math
import statistics
import sys
import time

LORA_RANK = 4
HINT = {
    "torch": "PyTorch is missing: apt-get install python3-torch",
    "diffusers": "diffusers 0.14.0 is missing: put the folder that holds diffusers/, and what it imports, on PYTHONPATH",
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--unet", required=True, help="unet/config.json of a model folder")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--latent", type=int, default=16, help="height and width")
    p.add_argument("--tokens", type=int, default=32, help="length of the condition")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--only", choices=["forward", "full", "lora"])
    return p.parse_args()


def need(*modules):
    for name in modules:
        if importlib.util.find_spec(name) is None:
            sys.exit("bench_torch.py: " + HINT[name])


def measure(run, repeats):
    seconds = []
    for i in range(repeats + 1):
        begin = time.perf_counter()
        run()
        if i > 0:
            seconds.append(time.perf_counter() - begin)
    return {"min": round(min(seconds), 4), "median": round(statistics.median(seconds), 4)}


def adapted(torch, base):
    """base(h) + (h A^T) B^T with A ~ N(0, 1/r^2) and B = 0."""

    class Adapted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.base = base
            self.a = torch.nn.Parameter(torch.randn(LORA_RANK, base.in_features) / LORA_RANK)
            self.b = torch.nn.Parameter(torch.zeros(base.out_features, LORA_RANK))

        def forward(self, h):
            return self.base(h) + torch.nn.functional.linear(torch.nn.functional.linear(h, self.a), self.b)

    return Adapted()


def add_adapters(torch, unet):
    unet.requires_grad_(False)
    wanted = ("to_q", "to_k", "to_v")
    places = [n for n, m in unet.named_modules()
              if isinstance(m, torch.nn.Linear) and (n.split(".")[-1] in wanted or n.endswith("to_out.0"))]
    for name in places:
        parent, _, leaf = name.rpartition(".")
        owner = unet.get_submodule(parent)
        setattr(owner, leaf, adapted(torch, getattr(owner, leaf)))


def main():
    a = arguments()
    need("torch", "diffusers")
    import torch
    from diffusers import UNet2DConditionModel

    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    with open(a.unet) as f:
        config = {k: v for k, v in json.load(f).items() if not k.startswith("_")}
    unet = UNet2DConditionModel(**config)
    x = torch.randn(a.batch, config["in_channels"], a.latent, a.latent)
    t = torch.tensor([i * 37 % 1000 for i in range(a.batch)])
    c = torch.randn(a.batch, a.tokens, config["cross_attention_dim"])

    def forward():
        with torch.no_grad():
            return unet(x, t, c).sample

    def train():
        unet.zero_grad(set_to_none=True)
        unet(x, t, c).sample.pow(2).mean().backward()

    out = {"params": sum(p.numel() for p in unet.parameters()), "batch": a.batch, "latent": a.latent,
           "threads": a.threads, "torch": torch.__version__}
    for name, run in (("forward", forward), ("full", train), ("lora", train)):
        if a.only not in (None, name):
            continue
        if name == "lora":
            add_adapters(torch, unet)
            out["lora_params"] = sum(p.numel() for p in unet.parameters() if p.requires_grad)
        out[name] = measure(run, a.repeats)
        if not math.isfinite(out[name]["min"]):
            sys.exit("bench_torch.py: a time that is no number")
    print(json.dumps(out))


if __name__ == "__main__":
    main()
