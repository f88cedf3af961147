"""One training loop: alone or many processes, on CPU, CUDA, ROCm or Gaudi, with or without mixed precision."""
