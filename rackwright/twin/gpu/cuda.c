/*
 * A stand-in for NVIDIA's library of the driver, libcuda.so.1, on hosts of a twin without the driver itself: programs
 * find it, and it answers that there is no GPU to compute with. Source of the number: the CUDA driver API,
 * cudaError_enum.
 */
int cuInit(unsigned int flags) {
    (void)flags;
    return 100; /* CUDA_ERROR_NO_DEVICE */
}
