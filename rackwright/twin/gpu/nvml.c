/*
 * A stand-in for NVIDIA's management library on hosts of a twin. The GPUs are lines of a state file.
 *
 * Names, numbers, structures and errors of the calls follow the documentation in nvml.h. The file has a part [gpu]
 * for each GPU, with key=value below. A missing key means that the board does not support the property. A line with
 * the name of a call overrides its answer: with an error's number, or with `never`.
 *
 * The driver has the version in DECLARED, if a twin cannot install the declared one, whatever other packages bring
 * along; otherwise that of the real library that is installed next to this one; without either, no driver is loaded. The settings that a driver forgets when it is loaded again are reset after /run has been emptied.
 *
 * Where device nodes exist, a process sees the GPUs whose nodes it may open, as with the real library. The twin's runc
 * puts the state file into a container that has such nodes, and the version of the loaded driver into KERNEL.
 *
 * Compiled with -std=c99. Tests define ROOT, a folder that precedes all paths.
 */
#define _XOPEN_SOURCE 700
#define _DEFAULT_SOURCE /* flock */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#ifndef ROOT
#define ROOT ""
#endif
#define STATE ROOT "/var/lib/rackwright-twin/gpus"
#define LOADED ROOT "/run/rackwright-twin-gpu-driver"
#define KERNEL ROOT "/run/rackwright-twin-gpu-kernel"
#define DECLARED ROOT "/usr/local/lib/rackwright-twin/driver-version"
#define NODES ROOT "/dev/nvidia"
#define REAL "libnvidia-ml.so."

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, LIB_RM_VERSION_MISMATCH = 18, IN_USE = 19,
    INSUFFICIENT_RESOURCES = 23, ARGUMENT_VERSION_MISMATCH = 25, UNKNOWN = 999
};
enum { WORD = 256, SLICES = 8, COMPUTE_SLICES = 7, HANDLES = 1 << 16 };

typedef unsigned int u32;
typedef unsigned long long u64;
typedef int status;
typedef struct device *device;     /* index + 1 */
typedef struct instance *instance; /* (index + 1) * HANDLES + id + 1 */

typedef struct { char bus_id_legacy[16]; u32 domain, bus, device, id, subsystem; char bus_id[32]; } pci_info;
typedef struct { u64 total, free, used; } memory_info;
typedef struct { u32 version; u64 total, reserved, free, used; } memory_info_2;
typedef struct { u32 gpu, memory; } utilisation;
typedef struct { u32 pid; u64 memory; u32 gpu_instance, compute_instance; } process_info;
typedef struct { u32 start, size; } placement;
typedef struct { device device; u32 id, profile; placement placement; } instance_info;
typedef struct { u32 id, p2p, slices, instances, engines[6]; u64 memory_mb; } profile_info;
typedef struct { u32 version, id, p2p, slices, instances, engines[6]; u64 memory_mb; char name[96]; } profile_info_2;

/* --- the file */

typedef struct { int fd, changed; char *text; } state;

static char *next_line(char *line) {
    char *end = strchr(line, '\n');
    return end ? end + 1 : line + strlen(line);
}

/* Returns the beginning of the lines of a GPU, or of the lines above all GPUs for -1; NULL if there is no such GPU. */
static char *part(char *text, int gpu) {
    for (; gpu >= 0; gpu--) {
        while (*text && strncmp(text, "[gpu]", 5)) text = next_line(text);
        if (!*text) return NULL;
        text = next_line(text);
    }
    return text;
}

static char *find(state *s, int gpu, const char *key, int nth) {
    char *line = part(s->text, gpu);
    size_t length = strlen(key);
    for (; line && *line && *line != '['; line = next_line(line))
        if (!strncmp(line, key, length) && line[length] == '=' && nth-- == 0) return line;
    return NULL;
}

/* Copies the nth value of a key to word, and returns whether there is one. */
static int get(state *s, int gpu, const char *key, int nth, char word[WORD]) {
    char *line = find(s, gpu, key, nth);
    if (!line) return 0;
    line += strlen(key) + 1;
    snprintf(word, WORD, "%.*s", (int)strcspn(line, "\n"), line);
    return 1;
}

static u64 get_number(state *s, int gpu, const char *key) {
    char word[WORD];
    return get(s, gpu, key, 0, word) ? strtoull(word, NULL, 10) : 0;
}

/* Replaces a line with key=value: adds it to the part if the line is NULL, removes the line if the value is NULL. */
static void replace(state *s, int gpu, char *line, const char *key, const char *value) {
    char *text = s->text, *tail = line ? next_line(line) : part(text, gpu), *buffer;
    size_t head = (size_t)((line ? line : tail) - text), room = strlen(text) + 2 * WORD;
    if (!(buffer = malloc(room))) abort();
    memcpy(buffer, text, head);
    snprintf(buffer + head, room - head, value ? "%s=%s\n%s" : "%.0s%.0s%s", key, value ? value : "", tail);
    free(text);
    s->text = buffer;
    s->changed = 1;
}

static void set(state *s, int gpu, const char *key, const char *value) {
    replace(s, gpu, find(s, gpu, key, 0), key, value);
}

static void set_number(state *s, int gpu, const char *key, u64 value) {
    char word[WORD];
    snprintf(word, sizeof word, "%llu", value);
    set(s, gpu, key, word);
}

static void forget(state *s, int gpu, const char *key) {
    char *line;
    while ((line = find(s, gpu, key, 0))) replace(s, gpu, line, key, NULL);
}

static status leave(state *s, status result) {
    if (s->changed) {
        size_t length = strlen(s->text);
        if (ftruncate(s->fd, 0) || pwrite(s->fd, s->text, length, 0) != (ssize_t)length) result = UNKNOWN;
    }
    if (s->fd >= 0) close(s->fd); /* this also frees the lock */
    free(s->text);
    s->text = NULL;
    s->fd = -1;
    return result;
}

/* Returns whether this process may open the device node of a GPU. No driver of this kernel answers at its number. */
static int has_node(int gpu) {
    char path[WORD];
    snprintf(path, sizeof path, "%s%d", NODES, gpu);
    int node = open(path, O_RDWR | O_CLOEXEC);
    if (node < 0) return errno == ENXIO;
    close(node);
    return 1;
}

/* Removes the parts of GPUs whose nodes this process may not open, and returns how many there were. */
static int hide(state *s) {
    size_t room = strlen(s->text) + HANDLES, length = strcspn(s->text, "[");
    int hidden = 0;
    char *seen = calloc(1, room), *begin, *end;
    if (!seen) abort();
    memcpy(seen, s->text, length);
    for (int gpu = 0; (begin = part(s->text, gpu)); gpu++) {
        for (end = begin; *end && *end != '[';) end = next_line(end);
        hidden += !has_node(gpu);
        if (has_node(gpu))
            length += (size_t)snprintf(seen + length, room - length, "[gpu]\nminor=%d\n%.*s", gpu, (int)(end - begin),
                                       begin);
    }
    free(hidden ? s->text : seen);
    if (hidden) s->text = seen;
    return hidden;
}

/* Opens and locks the file; only a call that writes needs root, and all nodes. */
static status enter(state *s, int write) {
    memset(s, 0, sizeof *s);
    s->fd = open(STATE, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (s->fd < 0) return write ? NO_PERMISSION : DRIVER_NOT_LOADED;
    flock(s->fd, write ? LOCK_EX : LOCK_SH);
    off_t size = lseek(s->fd, 0, SEEK_END);
    if (size < 0 || !(s->text = calloc(1, (size_t)size + 1)) || pread(s->fd, s->text, (size_t)size, 0) != size) abort();
    if (!access(NODES "ctl", F_OK) && hide(s) && write) return leave(s, NO_PERMISSION);
    return SUCCESS;
}

/* --- the driver */

static int uses;

/* Copies the version at the end of the real library's name to word, and returns whether there is one. */
static int installed_version(char word[WORD]) {
    static const char *const folders[] = {
        "/usr/lib/x86_64-linux-gnu/nvidia/current/", "/usr/lib/x86_64-linux-gnu/", "/usr/lib64/"};
    int declared = open(DECLARED, O_RDONLY | O_CLOEXEC);
    ssize_t length = declared < 0 ? 0 : read(declared, word, WORD - 1);
    if (declared >= 0) close(declared);
    word[length > 0 ? length : 0] = '\0';
    if (length > 0) return 1;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[WORD], *real, *name;
        snprintf(path, sizeof path, "%s%s%s1", ROOT, folders[i], REAL);
        real = realpath(path, NULL);
        name = real ? strstr(real, REAL) : NULL;
        int has_version = name && strchr(name + strlen(REAL), '.');
        if (has_version) snprintf(word, WORD, "%s", name + strlen(REAL));
        free(real);
        if (has_version) return 1;
    }
    return 0;
}

/* Loads the driver: pending settings take effect, and volatile values return to those of the idle board. */
static void load(const char *version) {
    static const char *const volatile_keys[] = {
        "lost", "instance", "process", "locked_clocks", "uncorrected_errors", "memory_used_bytes",
        "utilisation_percent", "temperature_celsius", "power_mw"};
    state s;
    if (enter(&s, 1)) return; /* other accounts than root read the file as it is */
    if (!access(LOADED, F_OK)) { /* another process has loaded it */
        leave(&s, SUCCESS);
        return;
    }
    for (int gpu = 0; part(s.text, gpu); gpu++) {
        char word[WORD];
        for (size_t i = 0; i < sizeof volatile_keys / sizeof *volatile_keys; i++) {
            char idle[WORD];
            snprintf(idle, sizeof idle, "idle_%s", volatile_keys[i]);
            forget(&s, gpu, volatile_keys[i]);
            if (get(&s, gpu, idle, 0, word)) set(&s, gpu, volatile_keys[i], word);
        }
        if (get(&s, gpu, "power_limit_default_mw", 0, word)) set(&s, gpu, "power_limit_mw", word);
        if (get(&s, gpu, "temperature_target_default", 0, word)) set(&s, gpu, "temperature_target", word);
        if (get(&s, gpu, "ecc_pending", 0, word)) set(&s, gpu, "ecc", word);
        if (find(&s, gpu, "mig_pending", 0)) {
            if (!get_number(&s, gpu, "mig_persists")) set(&s, gpu, "mig_pending", "0");
            set_number(&s, gpu, "mig", get_number(&s, gpu, "mig_pending"));
        }
        set(&s, gpu, "persistence", "0");
    }
    int marker = open(LOADED, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (marker >= 0) {
        ssize_t written = write(marker, version, strlen(version));
        (void)written;
        close(marker);
    }
    leave(&s, SUCCESS);
}

/* Returns SUCCESS if the loaded driver is the installed one; loads the installed one if no driver is loaded. */
static status driver(char word[WORD]) {
    char loaded[WORD] = "";
    int marker;
    if ((marker = open(KERNEL, O_RDONLY | O_CLOEXEC)) >= 0) {
        ssize_t length = read(marker, word, WORD - 1);
        close(marker);
        word[length > 0 ? length : 0] = '\0';
        return length > 0 ? SUCCESS : DRIVER_NOT_LOADED;
    }
    if (!installed_version(word)) return DRIVER_NOT_LOADED;
    if ((marker = open(LOADED, O_RDONLY | O_CLOEXEC)) < 0) {
        load(word);
        return SUCCESS;
    }
    ssize_t length = read(marker, loaded, WORD - 1);
    close(marker);
    return length > 0 && strcmp(loaded, word) ? LIB_RM_VERSION_MISMATCH : SUCCESS;
}

/* Returns the status with which the file overrides a call. */
static status override(state *s, int gpu, const char *call) {
    char word[WORD];
    if (!get(s, gpu, call, 0, word)) return SUCCESS;
    if (!strcmp(word, "never")) {
        leave(s, SUCCESS); /* the process that removes the line needs the lock */
        for (;;) pause();
    }
    return atoi(word);
}

/* Enters the file for a call that concerns no single GPU. */
static status begin(state *s, const char *call) {
    status result = uses ? enter(s, 0) : UNINITIALIZED;
    if (!result && (result = override(s, -1, call))) leave(s, SUCCESS);
    return result;
}

/* Enters the file for a call on a GPU; leaves it again on an error. */
static status begin_gpu(state *s, device d, int write, const char *call, int *gpu) {
    char word[WORD];
    status result = uses ? enter(s, write) : UNINITIALIZED;
    if (result) return result;
    *gpu = (int)((uintptr_t)d % HANDLES) - 1;
    result = *gpu < 0 || !part(s->text, *gpu) ? INVALID_ARGUMENT : override(s, *gpu, call);
    if (!result && get(s, *gpu, "lost", 0, word)) result = GPU_IS_LOST;
    if (result) leave(s, SUCCESS);
    return result;
}

static status copy(char *to, u32 length, const char *word) {
    if (!to) return INVALID_ARGUMENT;
    if (strlen(word) >= length) return INSUFFICIENT_SIZE;
    strcpy(to, word);
    return SUCCESS;
}

static status answer_text(device d, const char *call, const char *key, char *to, u32 length) {
    state s;
    char word[WORD];
    int gpu;
    status result = begin_gpu(&s, d, 0, call, &gpu);
    if (result) return result;
    return leave(&s, get(&s, gpu, key, 0, word) ? copy(to, length, word) : NOT_SUPPORTED);
}

static status answer_u64(device d, const char *call, const char *key, u64 *to) {
    state s;
    int gpu;
    status result = begin_gpu(&s, d, 0, call, &gpu);
    if (result) return result;
    if (!find(&s, gpu, key, 0)) return leave(&s, NOT_SUPPORTED);
    *to = get_number(&s, gpu, key);
    return leave(&s, SUCCESS);
}

static status answer_u32(device d, const char *call, const char *key, u32 *to) {
    u64 value = 0;
    status result = to ? answer_u64(d, call, key, &value) : INVALID_ARGUMENT;
    if (!result) *to = (u32)value;
    return result;
}

static status answer_pair(device d, const char *call, const char *first, u32 *a, const char *second, u32 *b) {
    status result = answer_u32(d, call, first, a);
    return result ? result : answer_u32(d, call, second, b);
}

/* --- calls */

status nvmlInitWithFlags(u32 flags) {
    char word[WORD];
    state s;
    status result = driver(word);
    (void)flags;
    if (!result) result = enter(&s, 0);
    if (result) return result;
    result = leave(&s, override(&s, -1, "nvmlInit_v2"));
    if (!result) uses++;
    return result;
}
status nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
status nvmlInit(void) { return nvmlInitWithFlags(0); }
status nvmlShutdown(void) {
    if (!uses) return UNINITIALIZED;
    uses--;
    return SUCCESS;
}

const char *nvmlErrorString(status result) {
    switch (result) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    case 16: return "GPU requires reset";
    case LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    case IN_USE: return "In use by another client";
    case INSUFFICIENT_RESOURCES: return "Insufficient Resources";
    case ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
    default: return "Unknown Error";
    }
}

/* Copies the driver's version to word, without the lock, which the loading takes. */
static status read_driver(const char *call, char word[WORD]) {
    state s;
    status result = begin(&s, call);
    if (result) return result;
    leave(&s, SUCCESS);
    return driver(word);
}

status nvmlSystemGetDriverVersion(char *to, u32 length) {
    char word[WORD];
    status result = read_driver(__func__, word);
    return result ? result : copy(to, length, word);
}

/* Answers the major CUDA version of the driver, followed by the driver's version. */
status nvmlSystemGetNVMLVersion(char *to, u32 length) {
    char word[WORD], both[WORD + 4];
    status result = read_driver(__func__, word);
    if (result) return result;
    snprintf(both, sizeof both, "%d.%s", atoi(word) >= 580 ? 13 : atoi(word) >= 525 ? 12 : 11, word);
    return copy(to, length, both);
}

status nvmlSystemGetProcessName(u32 pid, char *to, u32 length) {
    char word[WORD], name[WORD];
    state s;
    u32 process;
    status result = begin(&s, __func__);
    if (result) return result;
    for (int gpu = 0; part(s.text, gpu); gpu++)
        for (int nth = 0; get(&s, gpu, "process", nth, word); nth++)
            if (sscanf(word, "%u %*u %255[^\n]", &process, name) == 2 && process == pid) {
                if (!to || !length) return leave(&s, INVALID_ARGUMENT);
                snprintf(to, length, "%s", name);
                return leave(&s, SUCCESS);
            }
    return leave(&s, NOT_FOUND);
}

status nvmlDeviceGetCount_v2(u32 *count) {
    state s;
    status result = begin(&s, __func__);
    if (result) return result;
    for (*count = 0; part(s.text, (int)*count); ++*count) {}
    return leave(&s, SUCCESS);
}
status nvmlDeviceGetCount(u32 *count) { return nvmlDeviceGetCount_v2(count); }

status nvmlDeviceGetHandleByIndex_v2(u32 index, device *to) {
    state s;
    int gpu;
    device handle = (device)(uintptr_t)(index < HANDLES - 1 ? index + 1 : 0);
    status result = to ? begin_gpu(&s, handle, 0, __func__, &gpu) : INVALID_ARGUMENT;
    if (result) return result;
    *to = handle;
    return leave(&s, SUCCESS);
}
status nvmlDeviceGetHandleByIndex(u32 index, device *to) { return nvmlDeviceGetHandleByIndex_v2(index, to); }

static status find_gpu(const char *call, const char *key, const char *value, device *to) {
    char word[WORD];
    state s;
    status result = value && to ? begin(&s, call) : INVALID_ARGUMENT;
    if (result) return result;
    for (int gpu = 0; part(s.text, gpu); gpu++)
        if (get(&s, gpu, key, 0, word) && !strcmp(word, value)) {
            leave(&s, SUCCESS);
            return nvmlDeviceGetHandleByIndex_v2((u32)gpu, to);
        }
    return leave(&s, NOT_FOUND);
}
status nvmlDeviceGetHandleByUUID(const char *uuid, device *to) { return find_gpu(__func__, "uuid", uuid, to); }
status nvmlDeviceGetHandleBySerial(const char *serial, device *to) { return find_gpu(__func__, "serial", serial, to); }
status nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, device *to) {
    u32 domain, bus, slot;
    char address[WORD];
    if (!bus_id || sscanf(bus_id, "%x:%x:%x.", &domain, &bus, &slot) != 3) return INVALID_ARGUMENT;
    snprintf(address, sizeof address, "%04x:%02x:%02x.0", domain, bus, slot);
    return find_gpu(__func__, "pci_address", address, to);
}

status nvmlDeviceGetIndex(device d, u32 *to) {
    state s;
    int gpu;
    status result = to ? begin_gpu(&s, d, 0, __func__, &gpu) : INVALID_ARGUMENT;
    if (result) return result;
    *to = (u32)gpu;
    return leave(&s, SUCCESS);
}
status nvmlDeviceGetMinorNumber(device d, u32 *to) {
    status result = answer_u32(d, __func__, "minor", to); /* a GPU among hidden ones has its own number */
    return result == NOT_SUPPORTED ? nvmlDeviceGetIndex(d, to) : result;
}
status nvmlDeviceGetUUID(device d, char *to, u32 length) { return answer_text(d, __func__, "uuid", to, length); }
status nvmlDeviceGetName(device d, char *to, u32 length) { return answer_text(d, __func__, "name", to, length); }
status nvmlDeviceGetSerial(device d, char *to, u32 length) { return answer_text(d, __func__, "serial", to, length); }

status nvmlDeviceGetPciInfo_v3(device d, pci_info *to) {
    char address[WORD], id[WORD];
    u32 vendor, model;
    status result = answer_text(d, __func__, "pci_address", address, sizeof address);
    if (!result) result = answer_text(d, __func__, "pci_id", id, sizeof id);
    if (result) return result;
    if (!to || sscanf(id, "%x:%x", &vendor, &model) != 2) return INVALID_ARGUMENT;
    memset(to, 0, sizeof *to);
    if (sscanf(address, "%x:%x:%x.", &to->domain, &to->bus, &to->device) != 3) return UNKNOWN;
    to->id = model << 16 | vendor;
    snprintf(to->bus_id_legacy, sizeof to->bus_id_legacy, "%04X:%02X:%02X.0",
             to->domain & 0xffff, to->bus & 0xff, to->device & 0xff);
    snprintf(to->bus_id, sizeof to->bus_id, "%08X:%02X:%02X.0", to->domain, to->bus, to->device);
    return SUCCESS;
}

status nvmlDeviceGetMemoryInfo(device d, memory_info *to) {
    status result = to ? answer_u64(d, __func__, "memory_bytes", &to->total) : INVALID_ARGUMENT;
    if (!result) result = answer_u64(d, __func__, "memory_used_bytes", &to->used);
    if (!result) to->free = to->total - to->used;
    return result;
}
status nvmlDeviceGetMemoryInfo_v2(device d, memory_info_2 *to) {
    memory_info info;
    if (!to || to->version != (sizeof *to | 2 << 24)) return to ? ARGUMENT_VERSION_MISMATCH : INVALID_ARGUMENT;
    status result = nvmlDeviceGetMemoryInfo(d, &info);
    if (!result) *to = (memory_info_2){to->version, info.total, 0, info.free, info.used};
    return result;
}

status nvmlDeviceGetUtilizationRates(device d, utilisation *to) {
    u32 divided = 0;
    if (!answer_u32(d, __func__, "mig", &divided) && divided) return NOT_SUPPORTED;
    return to ? answer_pair(d, __func__, "utilisation_percent", &to->gpu, "utilisation_percent", &to->memory)
              : INVALID_ARGUMENT;
}
status nvmlDeviceGetTemperature(device d, int sensor, u32 *to) {
    return sensor ? INVALID_ARGUMENT : answer_u32(d, __func__, "temperature_celsius", to);
}

enum { TARGET_MIN = 4, TARGET = 5, TARGET_MAX = 6 };
status nvmlDeviceGetTemperatureThreshold(device d, int which, u32 *to) {
    switch (which) {
    case TARGET_MIN: return answer_u32(d, __func__, "temperature_target_min", to);
    case TARGET: return answer_u32(d, __func__, "temperature_target", to);
    case TARGET_MAX: return answer_u32(d, __func__, "temperature_target_max", to);
    default: return which < 0 || which > TARGET_MAX ? INVALID_ARGUMENT : NOT_SUPPORTED;
    }
}
status nvmlDeviceGetPowerUsage(device d, u32 *to) { return answer_u32(d, __func__, "power_mw", to); }
status nvmlDeviceGetPowerManagementLimit(device d, u32 *to) { return answer_u32(d, __func__, "power_limit_mw", to); }
status nvmlDeviceGetEnforcedPowerLimit(device d, u32 *to) { return answer_u32(d, __func__, "power_limit_mw", to); }
status nvmlDeviceGetPowerManagementDefaultLimit(device d, u32 *to) {
    return answer_u32(d, __func__, "power_limit_default_mw", to);
}
status nvmlDeviceGetPowerManagementLimitConstraints(device d, u32 *min, u32 *max) {
    return answer_pair(d, __func__, "power_limit_min_mw", min, "power_limit_max_mw", max);
}
status nvmlDeviceGetPersistenceMode(device d, u32 *to) { return answer_u32(d, __func__, "persistence", to); }
status nvmlDeviceGetEccMode(device d, u32 *current, u32 *pending) {
    return answer_pair(d, __func__, "ecc", current, "ecc_pending", pending);
}
status nvmlDeviceGetTotalEccErrors(device d, int sort, int counter, u64 *to) {
    u32 on = 0;
    (void)counter; /* both counters, since the load of the driver and for ever, are the same here */
    if (!to || sort < 0 || sort > 1) return INVALID_ARGUMENT;
    status result = answer_u32(d, __func__, "ecc", &on);
    if (result || !on) return result ? result : NOT_SUPPORTED;
    return sort ? answer_u64(d, __func__, "uncorrected_errors", to) : (*to = 0, SUCCESS);
}
status nvmlDeviceGetMigMode(device d, u32 *current, u32 *pending) {
    return answer_pair(d, __func__, "mig", current, "mig_pending", pending);
}

status nvmlDeviceGetMaxClockInfo(device d, int which, u32 *to) {
    return which > 1 ? NOT_SUPPORTED : answer_u32(d, __func__, "clock_max_mhz", to);
}
/* Answers the clock of graphics and SMs: the maximum of the board, within the locked range. */
status nvmlDeviceGetClockInfo(device d, int which, u32 *to) {
    char word[WORD];
    u32 low, high;
    status result = which > 1 ? NOT_SUPPORTED : answer_u32(d, __func__, "clock_mhz", to);
    if (result || answer_text(d, __func__, "locked_clocks", word, sizeof word)) return result;
    if (sscanf(word, "%u %u", &low, &high) == 2) *to = *to < low ? low : *to > high ? high : *to;
    return SUCCESS;
}

static status answer_processes(device d, const char *call, u32 *count, process_info *to) {
    state s;
    char word[WORD];
    u32 number = 0, pid, room;
    u64 memory;
    int gpu;
    status result = count ? begin_gpu(&s, d, 0, call, &gpu) : INVALID_ARGUMENT;
    if (result) return result;
    room = *count;
    for (int nth = 0; get(&s, gpu, "process", nth, word); nth++) {
        if (sscanf(word, "%u %llu", &pid, &memory) != 2) continue;
        if (number < room && to) to[number] = (process_info){pid, memory, UINT32_MAX, UINT32_MAX};
        number++;
    }
    *count = number;
    return leave(&s, number > room ? INSUFFICIENT_SIZE : SUCCESS);
}
status nvmlDeviceGetComputeRunningProcesses_v2(device d, u32 *count, process_info *to) {
    return answer_processes(d, __func__, count, to);
}
status nvmlDeviceGetComputeRunningProcesses_v3(device d, u32 *count, process_info *to) {
    return answer_processes(d, __func__, count, to);
}
static status answer_no_processes(device d, const char *call, u32 *count) {
    state s;
    int gpu;
    status result = count ? begin_gpu(&s, d, 0, call, &gpu) : INVALID_ARGUMENT;
    if (result) return result;
    *count = 0;
    return leave(&s, SUCCESS);
}
status nvmlDeviceGetGraphicsRunningProcesses_v2(device d, u32 *count, process_info *to) {
    (void)to;
    return answer_no_processes(d, __func__, count);
}
status nvmlDeviceGetGraphicsRunningProcesses_v3(device d, u32 *count, process_info *to) {
    (void)to;
    return answer_no_processes(d, __func__, count);
}

/* --- calls that change something: they need root */

static status change(device d, const char *call, const char *key, u64 value, const char *least, const char *most) {
    state s;
    int gpu;
    status result = begin_gpu(&s, d, 1, call, &gpu);
    if (result) return result;
    if (!find(&s, gpu, key, 0)) return leave(&s, NOT_SUPPORTED);
    if (least && (value < get_number(&s, gpu, least) || value > get_number(&s, gpu, most)))
        return leave(&s, INVALID_ARGUMENT);
    set_number(&s, gpu, key, value);
    return leave(&s, SUCCESS);
}
status nvmlDeviceSetPersistenceMode(device d, u32 mode) {
    return mode > 1 ? INVALID_ARGUMENT : change(d, __func__, "persistence", mode, NULL, NULL);
}
/* The mode takes effect when the driver is loaded again. */
status nvmlDeviceSetEccMode(device d, u32 mode) {
    return mode > 1 ? INVALID_ARGUMENT : change(d, __func__, "ecc_pending", mode, NULL, NULL);
}
status nvmlDeviceSetPowerManagementLimit(device d, u32 limit) {
    return change(d, __func__, "power_limit_mw", limit, "power_limit_min_mw", "power_limit_max_mw");
}
status nvmlDeviceSetTemperatureThreshold(device d, int which, int *to) {
    if (which != TARGET || !to || *to < 0) return INVALID_ARGUMENT;
    return change(d, __func__, "temperature_target", (u64)*to, "temperature_target_min", "temperature_target_max");
}

status nvmlDeviceSetGpuLockedClocks(device d, u32 low, u32 high) {
    state s;
    char word[WORD];
    int gpu;
    status result = begin_gpu(&s, d, 1, __func__, &gpu);
    if (result) return result;
    if (!find(&s, gpu, "clock_max_mhz", 0)) return leave(&s, NOT_SUPPORTED);
    if (low > high) return leave(&s, INVALID_ARGUMENT);
    snprintf(word, sizeof word, "%u %u", low, high);
    set(&s, gpu, "locked_clocks", word);
    return leave(&s, SUCCESS);
}
status nvmlDeviceResetGpuLockedClocks(device d) {
    state s;
    int gpu;
    status result = begin_gpu(&s, d, 1, __func__, &gpu);
    if (result) return result;
    forget(&s, gpu, "locked_clocks");
    return leave(&s, SUCCESS);
}

/* The driver resets the GPU itself; while the GPU is in use the mode stays pending. */
status nvmlDeviceSetMigMode(device d, u32 mode, status *activation) {
    state s;
    int gpu;
    status result = mode > 1 || !activation ? INVALID_ARGUMENT : begin_gpu(&s, d, 1, __func__, &gpu);
    if (result) return result;
    if (!find(&s, gpu, "mig", 0)) return leave(&s, NOT_SUPPORTED);
    set_number(&s, gpu, "mig_pending", mode);
    *activation = find(&s, gpu, "process", 0) || find(&s, gpu, "instance", 0) ? IN_USE : SUCCESS;
    if (get_number(&s, gpu, "mig") == mode) *activation = SUCCESS;
    if (!*activation) set_number(&s, gpu, "mig", mode);
    return leave(&s, SUCCESS);
}

/* --- GPU instances: instance=ID PROFILE START SIZE; profile=NUMBER ID SLICES SIZE COUNT MEMORY_MB STARTS NAME */

typedef struct { u32 number, id, slices, size, count, memory_mb; char starts[WORD], name[WORD]; } profile;

/* Finds a profile by its number in nvml.h, or by its id. */
static int find_profile(state *s, int gpu, int by_id, u32 number, profile *p) {
    char word[WORD];
    for (int nth = 0; get(s, gpu, "profile", nth, word); nth++)
        if (sscanf(word, "%u %u %u %u %u %u %255s %255s", &p->number, &p->id, &p->slices, &p->size, &p->count,
                   &p->memory_mb, p->starts, p->name) == 8 && (by_id ? p->id : p->number) == number)
            return 1;
    return 0;
}

/* Returns the nth position at which an instance of a profile may begin, -1 if there is none. */
static int nth_start(const profile *p, int nth) {
    const char *at = p->starts;
    while (nth-- && (at = strchr(at, ','))) at++;
    return at ? atoi(at) : -1;
}

static int find_instance(state *s, int gpu, int nth, instance_info *to) {
    char word[WORD];
    if (!get(s, gpu, "instance", nth, word)) return 0;
    return sscanf(word, "%u %u %u %u", &to->id, &to->profile, &to->placement.start, &to->placement.size) == 4;
}

static instance instance_handle(int gpu, u32 id) {
    return (instance)((uintptr_t)(id + 1) * HANDLES + (uintptr_t)gpu + 1);
}

/* Answers the properties of a profile; the second form also has the name and a version of the structure. */
static status answer_profile(device d, u32 number, const char *call, profile_info_2 *to) {
    state s;
    profile p;
    int gpu;
    status result = begin_gpu(&s, d, 0, call, &gpu);
    if (result) return result;
    if (!find_profile(&s, gpu, 0, number, &p)) return leave(&s, NOT_SUPPORTED);
    memset(to, 0, sizeof *to);
    to->id = p.id;
    to->slices = p.slices;
    to->instances = p.count;
    to->memory_mb = p.memory_mb;
    snprintf(to->name, sizeof to->name, "MIG %.80s", p.name);
    return leave(&s, SUCCESS);
}
status nvmlDeviceGetGpuInstanceProfileInfoV(device d, u32 number, profile_info_2 *to) {
    profile_info_2 info;
    if (!to || to->version != (sizeof *to | 2 << 24)) return to ? ARGUMENT_VERSION_MISMATCH : INVALID_ARGUMENT;
    status result = answer_profile(d, number, __func__, &info);
    info.version = to->version;
    if (!result) *to = info;
    return result;
}
status nvmlDeviceGetGpuInstanceProfileInfo(device d, u32 number, profile_info *to) {
    profile_info_2 info;
    status result = to ? answer_profile(d, number, __func__, &info) : INVALID_ARGUMENT;
    if (!result)
        *to = (profile_info){.id = info.id, .slices = info.slices, .instances = info.instances,
                             .memory_mb = info.memory_mb};
    return result;
}

status nvmlDeviceGetGpuInstancePossiblePlacements_v2(device d, u32 id, placement *to, u32 *count) {
    state s;
    profile p;
    int gpu, start;
    status result = count ? begin_gpu(&s, d, 0, __func__, &gpu) : INVALID_ARGUMENT;
    if (result) return result;
    if (!find_profile(&s, gpu, 1, id, &p)) return leave(&s, NOT_SUPPORTED);
    for (*count = 0; (start = nth_start(&p, (int)*count)) >= 0; ++*count)
        if (to) to[*count] = (placement){(u32)start, p.size};
    return leave(&s, SUCCESS);
}

/* Returns whether an instance of a profile fits at a position. */
static int fits(state *s, int gpu, const profile *p, int start) {
    u32 slices = 0, same_profile = 0;
    instance_info other;
    profile other_profile;
    if (start < 0 || (u32)start + p->size > SLICES) return 0;
    for (int nth = 0; find_instance(s, gpu, nth, &other); nth++) {
        if ((u32)start < other.placement.start + other.placement.size && other.placement.start < (u32)start + p->size)
            return 0;
        same_profile += other.profile == p->id;
        if (find_profile(s, gpu, 1, other.profile, &other_profile)) slices += other_profile.slices;
    }
    return same_profile < p->count && slices + p->slices <= COMPUTE_SLICES;
}

status nvmlDeviceGetGpuInstanceRemainingCapacity(device d, u32 id, u32 *count) {
    state s;
    profile p;
    int gpu, start;
    status result = count ? begin_gpu(&s, d, 0, __func__, &gpu) : INVALID_ARGUMENT;
    if (result) return result;
    if (!get_number(&s, gpu, "mig") || !find_profile(&s, gpu, 1, id, &p)) return leave(&s, NOT_SUPPORTED);
    *count = 0;
    for (int nth = 0; (start = nth_start(&p, nth)) >= 0; nth++) *count += (u32)fits(&s, gpu, &p, start);
    return leave(&s, SUCCESS);
}

static status create(device d, const char *call, u32 id, const placement *at, instance *to) {
    state s;
    profile p;
    instance_info other;
    char word[WORD];
    int gpu, start, nth;
    u32 free_id = 1;
    status result = to ? begin_gpu(&s, d, 1, call, &gpu) : INVALID_ARGUMENT;
    if (result) return result;
    if (!get_number(&s, gpu, "mig")) return leave(&s, NOT_SUPPORTED);
    if (!find_profile(&s, gpu, 1, id, &p)) return leave(&s, INVALID_ARGUMENT);
    for (nth = 0; (start = nth_start(&p, nth)) >= 0; nth++)
        if ((!at || ((u32)start == at->start && p.size == at->size)) && fits(&s, gpu, &p, start)) break;
    if (start < 0) return leave(&s, INSUFFICIENT_RESOURCES);
    for (nth = 0; find_instance(&s, gpu, nth, &other); nth++)
        if (other.id >= free_id) free_id = other.id + 1;
    snprintf(word, sizeof word, "%u %u %d %u", free_id, p.id, start, p.size);
    replace(&s, gpu, NULL, "instance", word);
    *to = instance_handle(gpu, free_id);
    return leave(&s, SUCCESS);
}
status nvmlDeviceCreateGpuInstance(device d, u32 id, instance *to) { return create(d, __func__, id, NULL, to); }
status nvmlDeviceCreateGpuInstanceWithPlacement(device d, u32 id, const placement *at, instance *to) {
    return at ? create(d, __func__, id, at, to) : INVALID_ARGUMENT;
}

status nvmlDeviceGetGpuInstances(device d, u32 id, instance *to, u32 *count) {
    state s;
    instance_info info;
    int gpu;
    if (geteuid()) return NO_PERMISSION;
    status result = to && count ? begin_gpu(&s, d, 0, __func__, &gpu) : INVALID_ARGUMENT;
    if (result) return result;
    if (!get_number(&s, gpu, "mig")) return leave(&s, NOT_SUPPORTED);
    *count = 0;
    for (int nth = 0; find_instance(&s, gpu, nth, &info); nth++)
        if (info.profile == id) to[(*count)++] = instance_handle(gpu, info.id);
    return leave(&s, SUCCESS);
}

/* Enters the file for a call on an instance, and sets nth to the number of its line. */
static status begin_instance(state *s, instance i, int write, const char *call, int *gpu, int *nth, instance_info *to) {
    device d = (device)((uintptr_t)i % HANDLES);
    status result = begin_gpu(s, d, write, call, gpu);
    if (result) return result;
    for (*nth = 0; find_instance(s, *gpu, *nth, to); ++*nth)
        if (instance_handle(*gpu, to->id) == i) {
            to->device = d;
            return SUCCESS;
        }
    return leave(s, INVALID_ARGUMENT);
}

status nvmlGpuInstanceGetInfo(instance i, instance_info *to) {
    state s;
    int gpu, nth;
    status result = to ? begin_instance(&s, i, 0, __func__, &gpu, &nth, to) : INVALID_ARGUMENT;
    return result ? result : leave(&s, SUCCESS);
}

/* The file does not assign processes to instances, so a process blocks the removal of all of them. */
status nvmlGpuInstanceDestroy(instance i) {
    state s;
    instance_info info;
    int gpu, nth;
    status result = begin_instance(&s, i, 1, __func__, &gpu, &nth, &info);
    if (result) return result;
    if (find(&s, gpu, "process", 0)) return leave(&s, IN_USE);
    replace(&s, gpu, find(&s, gpu, "instance", nth), "instance", NULL);
    return leave(&s, SUCCESS);
}
