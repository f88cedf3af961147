/* The calls of NVIDIA's driver that a TensorRT engine needs, in host memory: a GPU of compute capability 9.0. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int cuInit(unsigned flags) { return flags ? 1 : 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return number ? 101 : 0; }
int cuDeviceGetName(char *name, int size, int device) {
  (void)device;
  strncpy(name, "Stand-in", size);
  return 0;
}
int cuDeviceTotalMem_v2(size_t *size, int device) { (void)device; *size = (size_t)80 << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  (void)device;
  *value = attribute == 75 ? 9 : 0;
  return attribute == 75 || attribute == 76 ? 0 : 1;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; *context = malloc(1); return 0; }
int cuCtxSetCurrent(void *context) { return context ? 0 : 201; }
int cuStreamCreate(void **stream, unsigned flags) { *stream = malloc(1); return flags == 1 ? 0 : 1; }
int cuStreamSynchronize(void *stream) { return stream ? 0 : 400; }
int cuMemAlloc_v2(uint64_t *address, size_t size) {
  *address = (uint64_t)(uintptr_t)malloc(size);
  return *address ? 0 : 2;
}
int cuMemcpyHtoDAsync_v2(uint64_t address, const void *host, size_t size, void *stream) {
  memcpy((void *)(uintptr_t)address, host, size);
  return stream ? 0 : 400;
}
int cuMemcpyDtoHAsync_v2(void *host, uint64_t address, size_t size, void *stream) {
  memcpy(host, (void *)(uintptr_t)address, size);
  return stream ? 0 : 400;
}
