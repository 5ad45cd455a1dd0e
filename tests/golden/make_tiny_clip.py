#!/usr/bin/env python3
"""Writes tests/golden/tiny-clip: a CLIPModel in miniature with random weights, and what PyTorch says it answers.

    apt-get install python3-torch python3-pil && tests/golden/make_tiny_clip.py

The forward pass is written out after transformers' modeling_clip.py; pictures are prepared by Pillow as CLIPImageProcessor does."""
import json
import math
import os
import struct

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tiny-clip")
D, FF, LAYERS, HEADS, SIDE, PATCH = 24, 40, 2, 3, 32, 8
TD, TFF, TLAYERS, THEADS, L, E = 16, 32, 2, 2, 24, 20
torch.manual_seed(7)
weights = {}


def tensor(name, *shape, scale=0.3, offset=0.0):
    weights[name] = offset + scale * torch.randn(*shape)


def linear(name, out, inn, bias=True):
    tensor(f"{name}.weight", out, inn, scale=1.0 / math.sqrt(inn))
    if bias:
        tensor(f"{name}.bias", out, scale=0.1)


def norm(name, width):
    tensor(f"{name}.weight", width, scale=0.1, offset=1.0)
    tensor(f"{name}.bias", width, scale=0.1)


def tower(prefix, width, ff, layers):
    for i in range(layers):
        p = f"{prefix}.encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{p}.self_attn.{part}", width, width)
        norm(f"{p}.layer_norm1", width)
        norm(f"{p}.layer_norm2", width)
        linear(f"{p}.mlp.fc1", ff, width)
        linear(f"{p}.mlp.fc2", width, ff)


# printable stand-ins of the 256 bytes, alone and at the end of a word; no merges
def byte_symbols():
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    return [chr(c) for c in plain] + [chr(256 + i) for i in range(256 - len(plain))]


symbols = byte_symbols()
vocab = {s: i for i, s in enumerate(symbols + [s + "</w>" for s in symbols] + ["<|startoftext|>", "<|endoftext|>"])}

rows = 1 + (SIDE // PATCH) ** 2
tensor("vision_model.embeddings.class_embedding", D)
tensor("vision_model.embeddings.patch_embedding.weight", D, 3, PATCH, PATCH, scale=0.1)
tensor("vision_model.embeddings.position_embedding.weight", rows, D)
norm("vision_model.pre_layrnorm", D)
tower("vision_model", D, FF, LAYERS)
norm("vision_model.post_layernorm", D)
linear("visual_projection", E, D, bias=False)
tensor("text_model.embeddings.token_embedding.weight", len(vocab), TD)
tensor("text_model.embeddings.position_embedding.weight", L, TD)
tower("text_model", TD, TFF, TLAYERS)
norm("text_model.final_layer_norm", TD)
linear("text_projection", E, TD, bias=False)
weights["logit_scale"] = torch.tensor(math.log(87.0))
linear("head.layers.0", 6, E)
linear("head.layers.2", 1, 6)


def layer_norm(x, name):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)


def dense(x, name):
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def transformer(x, prefix, layers, heads, causal, act):
    length, width = x.shape[-2:]
    mask = torch.full((length, length), float("-inf")).triu(1) if causal else torch.zeros(length, length)
    for i in range(layers):
        p = f"{prefix}.encoder.layers.{i}"
        h = layer_norm(x, f"{p}.layer_norm1")
        q, k, v = (dense(h, f"{p}.self_attn.{n}_proj").view(-1, length, heads, width // heads).transpose(1, 2) for n in "qkv")
        a = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(width // heads) + mask, -1) @ v
        x = x + dense(a.transpose(1, 2).reshape(-1, length, width), f"{p}.self_attn.out_proj")
        x = x + dense(act(dense(layer_norm(x, f"{p}.layer_norm2"), f"{p}.mlp.fc1")), f"{p}.mlp.fc2")
    return x


def prepare(picture):
    w, h = picture.size
    size = (SIDE, int(SIDE * h / w)) if w <= h else (int(SIDE * w / h), SIDE)
    picture = picture.resize(size, Image.BICUBIC)
    left, top = (picture.width - SIDE) // 2, (picture.height - SIDE) // 2
    pixels = np.asarray(picture.crop((left, top, left + SIDE, top + SIDE)), dtype=np.float32) / 255.0
    mean, std = np.array([0.5, 0.45, 0.4], np.float32), np.array([0.3, 0.25, 0.2], np.float32)
    return torch.from_numpy((pixels - mean) / std).permute(2, 0, 1)[None]


def embed_picture(picture):
    x = F.conv2d(prepare(picture), weights["vision_model.embeddings.patch_embedding.weight"], stride=PATCH)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([weights["vision_model.embeddings.class_embedding"].expand(1, 1, -1), x], 1)
    x = layer_norm(x + weights["vision_model.embeddings.position_embedding.weight"], "vision_model.pre_layrnorm")
    x = transformer(x, "vision_model", LAYERS, HEADS, False, F.gelu)
    return F.normalize(dense(layer_norm(x[:, 0], "vision_model.post_layernorm"), "visual_projection"), dim=-1)[0]


def embed_text(text):
    pieces = [c for w in text.lower().split() for c in list(w[:-1]) + [w[-1] + "</w>"]]
    ids = ([vocab["<|startoftext|>"]] + [vocab[p] for p in pieces] + [vocab["<|endoftext|>"]])[:L]
    ids[-1] = vocab["<|endoftext|>"]
    end = len(ids) - 1
    ids += [vocab["<|endoftext|>"]] * (L - len(ids))
    x = weights["text_model.embeddings.token_embedding.weight"][torch.tensor(ids)][None]
    x = transformer(x + weights["text_model.embeddings.position_embedding.weight"], "text_model", TLAYERS, THEADS, True,
                    lambda z: z * torch.sigmoid(1.702 * z))
    x = layer_norm(x, "text_model.final_layer_norm")
    return F.normalize(dense(x[:, end], "text_projection"), dim=-1)[0]


def picture(width, height, seed):
    y, x = np.mgrid[0:height, 0:width]
    pixels = [127 + 120 * np.sin(seed + (1 + k) * x / 5.0 + (3 - k) * y / 7.0) for k in range(3)]
    return Image.fromarray(np.stack(pixels, -1).astype(np.uint8))


def write_safetensors(name, tensors):
    header, at = {}, 0
    for k, v in tensors.items():
        n = v.numel() * 4
        header[k] = {"dtype": "F32", "shape": list(v.shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(v.contiguous().numpy().tobytes() for v in tensors.values()))


def write_json(name, value):
    with open(os.path.join(OUT, name), "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


os.makedirs(OUT, exist_ok=True)
write_safetensors("model.safetensors", {k: v for k, v in weights.items() if not k.startswith("head.")})
write_safetensors("head.safetensors", {k[5:]: v for k, v in weights.items() if k.startswith("head.")})
write_json("config.json", {
    "model_type": "clip", "projection_dim": E,
    "text_config": {"model_type": "clip_text_model", "vocab_size": len(vocab), "hidden_size": TD, "intermediate_size": TFF,
                    "num_hidden_layers": TLAYERS, "num_attention_heads": THEADS, "max_position_embeddings": L},
    "vision_config": {"model_type": "clip_vision_model", "hidden_size": D, "intermediate_size": FF, "num_hidden_layers": LAYERS,
                      "num_attention_heads": HEADS, "image_size": SIDE, "patch_size": PATCH, "hidden_act": "gelu"}})
write_json("preprocessor_config.json", {"image_mean": [0.5, 0.45, 0.4], "image_std": [0.3, 0.25, 0.2]})
write_json("vocab.json", vocab)
with open(os.path.join(OUT, "merges.txt"), "w", encoding="utf-8") as f:
    f.write("#version: 0.2\n")
sizes, texts = [(64, 64), (20, 20), (48, 70), (91, 40)], ["a red circle", "two blue stars on gray", "x" * 40]
pictures = [picture(w, h, i) for i, (w, h) in enumerate(sizes)]
for i, p in enumerate(pictures):
    p.save(os.path.join(OUT, f"picture-{i}.png"))
with torch.no_grad():
    embedded = [embed_picture(p) for p in pictures]
    head = [dense(dense(v, "head.layers.0"), "head.layers.2").item() for v in embedded]
    write_json("expected.json", {"pictures": [v.tolist() for v in embedded], "head": head, "texts": texts,
                                 "text_embeddings": [embed_text(t).tolist() for t in texts]})
# Pillow's own resizing, both ways
resized = []
for size in [(32, 46), (31, 17), (100, 90), (7, 140)]:
    pixels = np.asarray(pictures[2].resize(size, Image.BICUBIC)).astype(np.int64).ravel()
    resized.append({"size": size, "sum": int(np.sum(pixels * (1 + np.arange(pixels.size) % 251)))})
write_json("resized.json", {"of": "picture-2.png", "to": resized})
