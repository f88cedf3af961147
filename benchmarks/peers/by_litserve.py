"""A model behind LitServe, as its documentation serves one with batches: by_litserve.py MODEL.onnx PORT."""

import sys

import litserve
import numpy as np
import onnxruntime


class Digits(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options)

    def decode_request(self, request):
        return np.array(request["x"], np.float32)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, x_BHW):
        return self.session.run(None, {"x": x_BHW})[0]

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"logits": output.tolist()}


if __name__ == "__main__":
    # two workers that wait for no more requests: the fastest here of one or two, with and without batches
    api = Digits(max_batch_size=16, batch_timeout=0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", generate_client_file=False)
