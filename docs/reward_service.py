#!/usr/bin/env python3
"""A reward service of one's own, with nothing but Python's standard library: how red is the picture?
usage: docs/reward_service.py [PORT [HOST]]        HOST 0.0.0.0: for others than this machine; then see docs/rewards.md"""
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = {"name": "redness", "versions": ["1"], "platform": "python",
         "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
                    {"name": "prompt", "datatype": "BYTES", "shape": [-1]}],
         "outputs": [{"name": "score", "datatype": "FP32", "shape": [-1]}]}


def score(pixels, prompt):  # pixels: R, G, B, R, G, B ... of one picture, row by row, 0 to 255
    red, green, blue = (sum(pixels[c::3]) for c in range(3))
    return (red - (green + blue) / 2) * 3 / (255 * len(pixels))


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept

    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(MODEL if self.path == "/v2/models/redness" else {"ready": True})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            request = json.loads(body)
            inputs = {tensor["name"]: tensor for tensor in request["inputs"]}
            n, pixels, prompts = inputs["image"]["shape"][0], inputs["image"]["data"], inputs["prompt"]["data"]
            size = len(pixels) // n
            scores = [score(pixels[i * size:(i + 1) * size], prompts[i]) for i in range(n)]
        except Exception as error:  # binary tensors, say
            return self.answer({"error": f"not a request in JSON: {type(error).__name__}: {error}"}, 400)
        self.answer({"model_name": "redness", "model_version": "1", "id": request.get("id", ""), "outputs": [
            {"name": "score", "datatype": "FP32", "shape": [n], "data": scores}]})

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8095
    host = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    print(f"http://{host}:{port}/v2/models/redness", flush=True)
    ThreadingHTTPServer((host, port), Service).serve_forever()
