/* Where and with what a cell was measured. */
#include "harness/store/provenance.h"

#include <hdf5.h>
#include <jansson.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>
#include <yaml.h>

#include "sw_version.h"

/* One fixed arena: provenance can be asked for when memory is short, and lives as long as the
 * process. */
static char argv_text[8192], host[256], os[512], cpu[256], libraries[256];

/* Appends `word`, quoted for a shell where it needs to be. */
static void append_quoted(const char *word)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
    size_t used = strlen(argv_text), room = sizeof argv_text - used;
    bool bare = *word && word[strspn(word, plain)] == '\0';
    char quoted[4096], *to = quoted;
    for (const char *s = word; *s && to < quoted + sizeof quoted - 8; s++) {
        if (*s == '\'') {
            memcpy(to, "'\\''", 4);
            to += 4;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
    snprintf(argv_text + used, room, bare ? "%s%s" : "%s'%s'", used ? " " : "",
             bare ? word : quoted);
}

void sw_provenance_init(int argc, char **argv)
{
    argv_text[0] = '\0';
    for (int i = 0; i < argc; i++)
        append_quoted(argv[i]);
}

/* The first "model name : …" of /proc/cpuinfo. */
static void read_cpu(const char *machine)
{
    snprintf(cpu, sizeof cpu, "%s", machine);
    FILE *f = fopen("/proc/cpuinfo", "re");
    if (!f)
        return;
    char line[512];
    while (fgets(line, sizeof line, f)) {
        const char *value = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;
        if (value) {
            value += strspn(value, ": \t");
            snprintf(cpu, sizeof cpu, "%.*s", (int)strcspn(value, "\n"), value);
            break;
        }
    }
    fclose(f);
}

const struct sw_provenance *sw_provenance(void)
{
    static struct sw_provenance p;
    if (p.version)
        return &p;
    struct utsname name = {0};
    uname(&name);
    snprintf(host, sizeof host, "%s", name.nodename);
    snprintf(os, sizeof os, "%s %s %s", name.sysname, name.release, name.machine);
    read_cpu(name.machine);
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    snprintf(libraries, sizeof libraries, "hdf5 %u.%u.%u, libyaml %s, jansson %s, xxhash %u.%u.%u",
             major, minor, release, yaml_get_version_string(), JANSSON_VERSION,
             XXH_versionNumber() / 10000, XXH_versionNumber() / 100 % 100,
             XXH_versionNumber() % 100);
    cpu_set_t set;
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    p = (struct sw_provenance){
        .argv = argv_text,
        .version = SW_VERSION,
        .code = SW_CODE_HASH,
        .git = SW_GIT,
        .build = SW_BUILD_TYPE,
        .host = host,
        .os = os,
        .cpu = cpu,
        .libraries = libraries,
        .cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                            : (int)sysconf(_SC_NPROCESSORS_ONLN),
        .memory_bytes = pages > 0 && page > 0 ? (int64_t)pages * page : 0,
    };
    return &p;
}

const char *sw_provenance_gpu(const struct sw_backend *backend)
{
    return backend && strcmp(backend->name, "cpu") != 0 ? backend->device : "";
}

const char *sw_utc_now(char text[32])
{
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return text;
}
