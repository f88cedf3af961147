"""GPUs of a twin: a stand-in for NVIDIA's management library, and the state file that it reads."""
