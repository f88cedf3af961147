"""GPUs of a twin: a stand-in for NVIDIA's management library, and the file that it reads."""
