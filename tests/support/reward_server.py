#!/usr/bin/env python3
"""Reward services of other projects in miniature, on Python's standard library: the same paths, requests read as strictly as
theirs, answers in their words.  The score of a picture is the length of its prompt / 100; a prompt "bad" gets what each
of them says when it fails.

    reward_server.py PORT"""
import base64
import email
import json
import math
import pickle
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def score(prompt, picture, magic=PNG):
    assert isinstance(prompt, str) and picture.startswith(magic), (prompt, picture[:8])
    return len(prompt) / 100


def decoded(text):
    return base64.b64decode(text, validate=True)


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def say(self, status, body, kind="application/json"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            getattr(self, {"/": "pickled", "/compute": "flow_factory", "/score": "unirl", "/get_reward": "openrlhf",
                           "/v1/chat/completions": "chat", "/raw": "raw", "/multipart": "multipart", "/latents": "latents"}[self.path])(body)
        except Exception as error:  # as their frameworks do it
            self.say(500, repr(error).encode(), "text/plain")

    def pickled(self, body):
        ask = pickle.loads(body)
        assert set(ask) == {"images", "prompts", "metadata"} and ask["metadata"] == {}, ask.keys()
        if "bad" in ask["prompts"]:
            return self.say(200, pickle.dumps({"error": "CUDA out of memory"}))
        return self.say(200, pickle.dumps({"scores": [score(p, i, JPEG) for p, i in zip(ask["prompts"], ask["images"], strict=True)]}))

    def flow_factory(self, body):
        ask = json.loads(body)
        if "bad" in ask["prompt"]:
            return self.say(200, {"error": "no such model"})
        return self.say(200, {"rewards": [score(p, decoded(i)) for p, i in zip(ask["prompt"], ask["image"], strict=True)]})

    def unirl(self, body):
        results, errors = [], []
        for one in json.loads(body)["requests"]:
            (turn,), (name,) = one["history"], one["required_rewards"]
            assert isinstance(one["metadata"], dict)
            value = float("nan") if turn["text"] == "bad" else score(turn["text"], decoded(turn["image_b64"]))
            results.append({name: {"overall": value}})
            errors.append({})
        self.say(200, {"results": results, "errors": errors})

    def openrlhf(self, body):
        ask = json.loads(body)
        rewards = [None if p == "bad" else score(p, decoded(i)) for p, i in zip(ask["prompts"], ask["images"], strict=True)]
        self.say(200, {"rewards": rewards, "scores": rewards, "extra_logs": {}})

    def chat(self, body):
        ask = json.loads(body)
        (message,) = ask["messages"]
        picture, question = message["content"]
        head, data = picture["image_url"]["url"].split(",", 1)
        assert head == "data:image/png;base64" and ask["temperature"] == 0
        prompt = question["text"].split('"')[1]
        said = "I cannot say." if prompt == "bad" else f"A fine picture. Score: {score(prompt, decoded(data))}"
        self.say(200, {"choices": [{"index": 0, "message": {"role": "assistant", "content": said}}]})

    def raw(self, body):
        prompt = self.headers["X-Prompt"]
        self.say(200, {"detail": "no score"} if prompt == "bad" else str(score(prompt, body)).encode(), "text/plain")

    def multipart(self, body):
        whole = email.message_from_bytes(b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + body)
        parts = {p.get_param("name", header="content-disposition"): p.get_payload(decode=True) for p in whole.get_payload()}
        prompt = parts["prompt"].decode()
        self.say(200, {"score": "high" if prompt == "bad" else score(prompt, parts["image"])})

    def latents(self, body):
        assert self.headers["x-drm-protocol-version"] == "1" and self.headers["Content-Type"] == "application/octet-stream"
        (n,) = struct.unpack("<Q", body[:8])
        head = json.loads(body[8 : 8 + n])
        tensor, data = head["latents"], body[8 + n :]
        first, last = tensor["data_offsets"]
        count, channels, height, width = tensor["shape"]
        assert tensor["dtype"] == "F32" and last - first == 4 * count * channels * height * width
        assert all(math.isfinite(v) for (v,) in struct.iter_unpack("<f", data[first:last]))
        prompts = json.loads(head["__metadata__"]["prompts"])
        assert len(prompts) == count == len(json.loads(head["__metadata__"]["metadatas"]))
        self.say(200, {"protocol_version": "1", "raw_scores": [None if p == "bad" else len(p) / 100 for p in prompts]})


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Service).serve_forever()
