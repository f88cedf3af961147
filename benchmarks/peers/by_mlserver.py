"""A model behind MLServer, as its documentation writes a runtime of one's own."""

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Digits(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x_BHW = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        outputs = [NumpyCodec.encode_output("logits", self.session.run(None, {"x": x_BHW})[0])]
        return InferenceResponse(model_name=self.name, outputs=outputs)
