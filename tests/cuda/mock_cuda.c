/* A CUDA driver without a GPU: enough of libcuda for a driver library to run end to end.

   Device memory is the host's. A launch goes to a function that the test sets. What is counted:
   allocations, modules, events that live, and the depth of the context stack. MOCK_CUDA_DEVICES says
   how many devices there are, MOCK_CUDA_MEMORY how many bytes each has; mock_fail makes the next call
   of a kind fail, and errors that stay do stay. A journal keeps what was given to which stream. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int result;
enum { INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201,
       INVALID_IMAGE = 200, NOT_FOUND = 500, NOT_SUPPORTED = 801 };

#define MOST 65536
#define SHARED_MEMORY 232448

struct module { char *image; size_t size; };
struct function { struct module *module; char name[64]; int shared; };
typedef int (*launch_hook)(const void *image, size_t size, const char *name, const unsigned *grid,
                           unsigned threads, unsigned shared, const void *arguments, size_t length);

static launch_hook hook;
static struct { uintptr_t at; size_t size; } blocks[MOST];
static int block_count, live_blocks, live_modules, live_events, launches, retained;
static __thread int depth;
static size_t used;
static int sticky, fail_next;
static char context;

/* What was done, in order, as "launch 5; copy 0 640; record e1 5; wait 0 e1;". */
static char journal[1 << 20];
static size_t written;
static void note(const char *what, const void *stream, const char *format, size_t value)
{
    if (sizeof journal - written < 128)
        written = 0;
    written += (size_t)sprintf(journal + written, "%s %zu", what, (size_t)stream);
    if (format)
        written += (size_t)sprintf(journal + written, format, value);
    written += (size_t)sprintf(journal + written, ";");
}
/* Return the journal, and begin a new one. */
const char *mock_journal(void)
{
    journal[written] = 0;
    written = 0;
    return journal;
}

void mock_set_launch(launch_hook h) { hook = h; }
void mock_fail(int code) { fail_next = code; }
void mock_counts(int *out)
{
    int found[] = { live_blocks, live_modules, live_events, depth, launches, retained };
    memcpy(out, found, sizeof found);
}
/* The bytes from an address to the end of its allocation; 0 if it lies in none. */
size_t mock_extent(uintptr_t at)
{
    for (int i = 0; i < block_count; ++i)
        if (blocks[i].at && at >= blocks[i].at && at < blocks[i].at + blocks[i].size)
            return blocks[i].at + blocks[i].size - at;
    return 0;
}

static size_t number(const char *name, size_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, 0, 10) : otherwise;
}
static int devices(void) { return (int)number("MOCK_CUDA_DEVICES", 1); }
static int is_sticky(int code) { return code == 700 || (code >= 714 && code <= 719); }
static result take(void)
{
    if (sticky)
        return sticky;
    int code = fail_next;
    fail_next = 0;
    if (is_sticky(code))
        sticky = code;
    return code;
}
#define CURRENT if (!depth) return INVALID_CONTEXT; if (sticky) return sticky;

result cuInit(unsigned flags) { (void)flags; return devices() ? 0 : NO_DEVICE; }
result cuDriverGetVersion(int *v) { *v = 13000; return 0; }
result cuDeviceGet(int *d, int i) { *d = i; return i >= 0 && i < devices() ? 0 : 101; }
result cuDeviceGetCount(int *n) { *n = devices(); return 0; }
result cuDeviceGetName(char *name, int size, int d)
{
    (void)d;
    snprintf(name, (size_t)size, "Mock GPU");
    return 0;
}
result cuDeviceTotalMem_v2(size_t *n, int d)
{
    (void)d;
    *n = number("MOCK_CUDA_MEMORY", (size_t)1 << 30);
    return 0;
}
result cuDeviceGetAttribute(int *value, int kind, int d)
{
    (void)d;
    switch (kind) {
    case 1: *value = 1024; break;
    case 13: *value = 1000000; break;
    case 16: *value = 4; break;
    case 36: *value = 1000000; break;
    case 37: *value = 256; break;
    case 38: *value = 1 << 20; break;
    case 39: *value = 2048; break;
    case 75: *value = 9; break;
    case 76: *value = 0; break;
    case 81: *value = 233472; break;
    case 82: *value = 65536; break;
    case 97: *value = SHARED_MEMORY; break;
    default: *value = 0;
    }
    return 0;
}
result cuDeviceComputeCapability(int *major, int *minor, int d)
{
    (void)d;
    *major = 9, *minor = 0;
    return 0;
}

result cuDevicePrimaryCtxRetain(void **c, int d) { (void)d; *c = &context; ++retained; return 0; }
result cuDevicePrimaryCtxRelease_v2(int d) { (void)d; --retained; return 0; }
result cuCtxPushCurrent_v2(void *c) { (void)c; ++depth; return 0; }
result cuCtxPopCurrent_v2(void **c)
{
    if (!depth)
        return INVALID_CONTEXT;
    --depth;
    if (c)
        *c = &context;
    return 0;
}
result cuCtxGetCurrent(void **c) { *c = depth ? &context : 0; return 0; }
result cuCtxSetCurrent(void *c) { depth = c ? (depth ? depth : 1) : 0; return 0; }
result cuCtxGetDevice(int *d) { *d = 0; return depth ? 0 : INVALID_CONTEXT; }
result cuCtxDetach(void *c) { (void)c; return 0; }
result cuCtxSynchronize(void) { CURRENT return take(); }

result cuMemAlloc_v2(uintptr_t *at, size_t size)
{
    CURRENT
    size_t total;
    cuDeviceTotalMem_v2(&total, 0);
    if (!size || block_count == MOST)
        return INVALID_VALUE;
    if (used + size > total)
        return OUT_OF_MEMORY;
    void *found = aligned_alloc(256, (size + 255) / 256 * 256);
    memset(found, 0xFF, size); /* what nobody wrote is NaN */
    *at = (uintptr_t)found;
    blocks[block_count].at = *at;
    blocks[block_count++].size = size;
    used += size;
    ++live_blocks;
    return 0;
}
result cuMemFree_v2(uintptr_t at)
{
    CURRENT
    for (int i = 0; i < block_count; ++i)
        if (at && blocks[i].at == at) {
            blocks[i].at = 0;
            used -= blocks[i].size;
            --live_blocks;
            free((void *)at);
            return 0;
        }
    return INVALID_VALUE;
}
result cuMemcpyHtoD_v2(uintptr_t to, const void *from, size_t size)
{
    CURRENT
    if (mock_extent(to) < size)
        return INVALID_VALUE;
    memcpy((void *)to, from, size);
    return 0;
}
result cuMemcpyDtoH_v2(void *to, uintptr_t from, size_t size)
{
    CURRENT
    if (mock_extent(from) < size)
        return INVALID_VALUE;
    memcpy(to, (void *)from, size);
    return 0;
}
result cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t size, void *stream)
{
    CURRENT
    if (mock_extent(to) < size || mock_extent(from) < size)
        return INVALID_VALUE;
    memmove((void *)to, (void *)from, size);
    note("copy", stream, " %zu", size);
    return 0;
}
result cuMemcpyDtoD_v2(uintptr_t to, uintptr_t from, size_t size)
{
    return cuMemcpyDtoDAsync_v2(to, from, size, 0);
}

result cuModuleLoadDataEx(void **m, const void *image, unsigned n, void *options, void *values)
{
    (void)n, (void)options, (void)values;
    CURRENT
    const unsigned char *bytes = image;
    if (memcmp(bytes, "\177ELF", 4))
        return INVALID_IMAGE;
    /* An ELF file ends with its program headers or its section headers, whichever lie last. */
    uint64_t programs, sections;
    uint16_t sizes[4];
    memcpy(&programs, bytes + 32, 8);
    memcpy(&sections, bytes + 40, 8);
    memcpy(sizes, bytes + 54, 8);
    uint64_t one = programs + (uint64_t)sizes[0] * sizes[1];
    uint64_t two = sections + (uint64_t)sizes[2] * sizes[3];
    struct module *found = malloc(sizeof *found);
    found->size = one > two ? one : two;
    found->image = malloc(found->size);
    memcpy(found->image, image, found->size);
    *m = found;
    ++live_modules;
    return 0;
}
result cuModuleLoadData(void **m, const void *image) { return cuModuleLoadDataEx(m, image, 0, 0, 0); }
result cuModuleUnload(void *m)
{
    free(((struct module *)m)->image);
    free(m);
    --live_modules;
    return 0;
}
result cuModuleGetFunction(void **f, void *m, const char *name)
{
    CURRENT
    struct module *module = m;
    if (!memmem(module->image, module->size, name, strlen(name)))
        return NOT_FOUND;
    struct function *found = calloc(1, sizeof *found); /* as long as the process, like the driver's */
    found->module = module;
    found->shared = 49152;
    snprintf(found->name, sizeof found->name, "%s", name);
    *f = found;
    return 0;
}
result cuFuncSetAttribute(void *f, int kind, int value)
{
    CURRENT
    if (kind == 8 && value > SHARED_MEMORY)
        return INVALID_VALUE;
    if (kind == 8)
        ((struct function *)f)->shared = value;
    return 0;
}
result cuFuncGetAttribute(int *value, int kind, void *f) { (void)kind, (void)f; *value = 0; return 0; }

result cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                      unsigned bz, unsigned shared, void *stream, void **parameters, void **extra)
{
    CURRENT
    const struct function *function = f;
    unsigned grid[] = { gx, gy, gz };
    if (!gx || !gy || !gz || gy > 65535 || gz > 65535 || bx * by * bz > 1024 || by != 1 || bz != 1)
        return INVALID_VALUE;
    if ((int)shared > function->shared || parameters || !extra)
        return INVALID_VALUE;
    int code = take();
    if (code)
        return code;
    const void *buffer = 0;
    size_t length = 0;
    for (; *extra; extra += 2)
        if ((uintptr_t)*extra == 1)
            buffer = extra[1];
        else
            length = *(size_t *)extra[1];
    ++launches;
    note("launch", stream, 0, 0);
    if (hook)
        code = hook(function->module->image, function->module->size, function->name, grid, bx, shared,
                    buffer, length);
    if (is_sticky(code))
        sticky = code;
    return code;
}

struct event { struct timespec at; size_t number; };
result cuEventCreate(void **e, unsigned flags)
{
    (void)flags;
    CURRENT
    static size_t numbers;
    struct event *found = calloc(1, sizeof *found);
    found->number = ++numbers;
    *e = found;
    ++live_events;
    return 0;
}
result cuEventRecord(void *e, void *stream)
{
    CURRENT
    clock_gettime(CLOCK_MONOTONIC, &((struct event *)e)->at);
    note("record", stream, " e%zu", ((struct event *)e)->number);
    return 0;
}
result cuStreamWaitEvent(void *stream, void *e, unsigned flags)
{
    (void)flags;
    CURRENT
    note("wait", stream, " e%zu", ((struct event *)e)->number);
    return 0;
}
result cuEventSynchronize(void *e) { (void)e; CURRENT return take(); }
result cuEventElapsedTime(float *ms, void *a, void *b)
{
    struct event *x = a, *y = b;
    *ms = (float)((double)(y->at.tv_sec - x->at.tv_sec) * 1e3
                  + (double)(y->at.tv_nsec - x->at.tv_nsec) * 1e-6);
    if (*ms < 1e-6f)
        *ms = 1e-6f;
    return 0;
}
result cuEventElapsedTime_v2(float *ms, void *a, void *b) { return cuEventElapsedTime(ms, a, b); }
result cuEventDestroy_v2(void *e) { free(e); --live_events; return 0; }

result cuGetErrorString(int code, const char **text)
{
    switch (code) {
    case 0: *text = "no error"; break;
    case INVALID_VALUE: *text = "invalid argument"; break;
    case OUT_OF_MEMORY: *text = "out of memory"; break;
    case NO_DEVICE: *text = "no CUDA-capable device is detected"; break;
    case INVALID_CONTEXT: *text = "invalid device context"; break;
    case INVALID_IMAGE: *text = "device kernel image is invalid"; break;
    case NOT_FOUND: *text = "named symbol not found"; break;
    case 209: *text = "no kernel image is available for execution on the device"; break;
    case 700: *text = "an illegal memory access was encountered"; break;
    case 701: *text = "too many resources requested for launch"; break;
    case 719: *text = "unspecified launch failure"; break;
    default: *text = "operation not supported";
    }
    return 0;
}
result cuGetErrorName(int code, const char **text) { return cuGetErrorString(code, text); }

/* NVRTC asks for a table, and does without. */
result cuGetExportTable(const void **table, const void *id) { (void)id; *table = 0; return NOT_FOUND; }

/* Newer names come with their version: the newest that is here is what is asked for. */
result cuGetProcAddress_v2(const char *name, void **at, int version, uint64_t flags, int *status)
{
    (void)version, (void)flags;
    char newer[128];
    *at = 0;
    for (int v = 4; v >= 1 && !*at; --v) {
        snprintf(newer, sizeof newer, v > 1 ? "%s_v%d" : "%s", name, v);
        *at = dlsym(RTLD_DEFAULT, newer);
    }
    if (!*at) {
        void *self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
        for (int v = 4; v >= 1 && !*at && self; --v) {
            snprintf(newer, sizeof newer, v > 1 ? "%s_v%d" : "%s", name, v);
            *at = dlsym(self, newer);
        }
    }
    if (status)
        *status = *at ? 0 : 1;
    return *at ? 0 : NOT_FOUND;
}
result cuGetProcAddress(const char *name, void **at, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(name, at, version, flags, 0);
}
