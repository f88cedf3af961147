"""A server for one model: KServe's protocol or OpenAI's over HTTP, without PyTorch unless the model takes it."""
