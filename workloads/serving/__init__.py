"""A server for one model: KServe's protocol over HTTP, without PyTorch unless the model takes it."""
