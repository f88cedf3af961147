"""llama.cpp's own server, as xllamacpp runs it: by_llama.py MODEL.gguf PORT THREADS PARALLEL CONTEXT."""

import sys
import time

import xllamacpp

path, port, threads, parallel, context = sys.argv[1], *map(int, sys.argv[2:])
params = xllamacpp.CommonParams()
params.model.path = path
params.hostnames, params.port = ["127.0.0.1"], port
params.n_parallel, params.n_ctx = parallel, parallel * context
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
params.n_gpu_layers = 0
params.verbosity = 0
server = xllamacpp.Server(params)
while True:
    time.sleep(3600)
