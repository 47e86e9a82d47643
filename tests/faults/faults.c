/* Preloaded into swbench (LD_PRELOAD) by tests/program/test_faults.py: the k-th call of one kind
 * fails. Only calls made by the program itself count, told by the return address; kind "anyone"
 * counts those of HDF5, OpenBLAS, libyaml, … too, some of which crash or exit then, and the log
 * says where that was.
 *
 *   SWBENCH_FAULT=memory:K   the K-th malloc, calloc, realloc, aligned_alloc, posix_memalign,
 *   strdup, asprintf, vasprintf or open_memstream: no memory
 *   SWBENCH_FAULT=file:K     the K-th write, fsync, rename, mkdir or open for writing: no space
 *   left, or an I/O error
 *   SWBENCH_FAULT=killed:K   the K-th of the calls of file, or unlink: the process is killed
 *   SWBENCH_FAULT=anyone:K   the K-th malloc, calloc or realloc, whoever calls
 *   SWBENCH_FAULT_LOG=FILE   is given the number of such calls at the end; once the fault has
 *                            happened, "fault" and the call's address; of a crash or an exit after
 *                            it, "ended" and the program or library that did it */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind { NONE, MEMORY, FILES, ANYONE, KILLED };

static enum kind kind;
static long wanted;
static atomic_long count;
static uintptr_t text_from, text_to, base;
static char log_path[512];

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

/* The executable comes first. */
static int find_text(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)size, (void)unused;
    base = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
            continue;
        text_from = info->dlpi_addr + p->p_vaddr;
        text_to = text_from + p->p_memsz;
    }
    return 1;
}

static void put_text(const char *what, const char *text)
{
    char line[160];
    int fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666),
        n = snprintf(line, sizeof line, "%s %.99s\n", what, text);
    if (fd >= 0 && write(fd, line, (size_t)n) == n)
        close(fd);
}

static void put_line(const char *what, long number)
{
    char text[24];
    snprintf(text, sizeof text, "%ld", number);
    put_text(what, text);
}

/* The innermost caller that is neither this file nor the C library. */
static const char *caller(void)
{
    void *frames[64];
    Dl_info self = {0}, found;
    dladdr((void *)caller, &self);
    int n = backtrace(frames, 64);
    for (int i = 0; i < n; i++) {
        const char *name = dladdr(frames[i], &found) && found.dli_fname ? found.dli_fname : "",
                   *slash = strrchr(name, '/');
        if (*name && found.dli_fbase != self.dli_fbase && !strstr(name, "libc.so"))
            return slash ? slash + 1 : name;
    }
    return "unknown";
}

static void crashed(int number)
{
    kind = NONE;
    put_text("ended", caller());
    raise(number); /* blocked until here is left, then the end: SA_RESETHAND */
}

static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

__attribute__((constructor)) static void begin(void)
{
    const char *fault = getenv("SWBENCH_FAULT"), *log = getenv("SWBENCH_FAULT_LOG"),
               *colon = fault ? strchr(fault, ':') : NULL;
    dl_iterate_phdr(find_text, NULL);
    if (!colon)
        return;
    snprintf(log_path, sizeof log_path, "%s", log ? log : "/dev/null");
    wanted = atol(colon + 1);
    backtrace((void *[1]){NULL}, 1); /* loads what it needs while there is memory */
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
        sigaction(crashes[i], &(struct sigaction){.sa_handler = crashed, .sa_flags = SA_RESETHAND},
                  NULL);
    /* last: from here on calls count */
    kind = *fault == 'm' ? MEMORY : *fault == 'f' ? FILES : *fault == 'k' ? KILLED : ANYONE;
}

__attribute__((destructor)) static void end(void)
{
    enum kind was = kind;
    kind = NONE;
    if (was != NONE)
        put_line("calls", atomic_load(&count));
}

static bool fails(enum kind what, void *from)
{
    uintptr_t address = (uintptr_t)from;
    if (kind == NONE ||
        (kind != what && !(kind == ANYONE && what == MEMORY) && !(kind == KILLED && what == FILES)))
        return false;
    if (kind != ANYONE && (address < text_from || address >= text_to))
        return false;
    if (atomic_fetch_add(&count, 1) + 1 != wanted)
        return false;
    enum kind was = kind;
    kind = NONE; /* the log's own calls */
    put_line("fault", (long)(address - base));
    kind = was;
    if (kind == KILLED)
        raise(SIGKILL);
    return true;
}

#define FAILS(what) fails(what, __builtin_return_address(0))
#define NEXT(name)  ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void *malloc(size_t size) { return FAILS(MEMORY) ? (errno = ENOMEM, NULL) : __libc_malloc(size); }

void *calloc(size_t n, size_t size)
{
    return FAILS(MEMORY) ? (errno = ENOMEM, NULL) : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    return FAILS(MEMORY) ? (errno = ENOMEM, NULL) : __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return FAILS(MEMORY) ? (errno = ENOMEM, NULL) : __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    if (FAILS(MEMORY))
        return ENOMEM;
    *out = __libc_memalign(alignment, size);
    return *out ? 0 : ENOMEM;
}

char *strdup(const char *text)
{
    return FAILS(MEMORY) ? (errno = ENOMEM, NULL) : NEXT(strdup)(text);
}

char *strndup(const char *text, size_t n)
{
    return FAILS(MEMORY) ? (errno = ENOMEM, NULL) : NEXT(strndup)(text, n);
}

int vasprintf(char **out, const char *format, va_list arguments)
{
    return FAILS(MEMORY) ? (*out = NULL, errno = ENOMEM, -1)
                         : NEXT(vasprintf)(out, format, arguments);
}

int asprintf(char **out, const char *format, ...)
{
    if (FAILS(MEMORY))
        return *out = NULL, errno = ENOMEM, -1;
    va_list arguments;
    va_start(arguments, format);
    int n = NEXT(vasprintf)(out, format, arguments);
    va_end(arguments);
    return n;
}

FILE *open_memstream(char **text, size_t *size)
{
    return FAILS(MEMORY) ? (errno = ENOMEM, NULL) : NEXT(open_memstream)(text, size);
}

/* main returns, so whoever calls this is a library. */
void exit(int code)
{
    enum kind was = kind;
    kind = NONE;
    if (was != NONE)
        put_text("ended", caller());
    NEXT(exit)(code);
    __builtin_unreachable();
}

ssize_t write(int fd, const void *data, size_t size)
{
    return FAILS(FILES) ? (errno = ENOSPC, -1) : NEXT(write)(fd, data, size);
}

int fsync(int fd) { return FAILS(FILES) ? (errno = EIO, -1) : NEXT(fsync)(fd); }

int rename(const char *from, const char *to)
{
    return FAILS(FILES) ? (errno = EROFS, -1) : NEXT(rename)(from, to);
}

/* Nobody can do anything about one that fails. */
int unlink(const char *path)
{
    if (kind == KILLED)
        FAILS(FILES);
    return NEXT(unlink)(path);
}

int mkdir(const char *path, mode_t mode)
{
    return FAILS(FILES) ? (errno = EROFS, -1) : NEXT(mkdir)(path, mode);
}

int open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    if (flags & (O_CREAT | O_WRONLY | O_RDWR) && FAILS(FILES))
        return errno = ENOSPC, -1;
    return NEXT(open)(path, flags, mode);
}
