/* What a disk does to one folder: flushes that are slow or fail, and what a power cut would leave.
 *
 * Loaded with LD_PRELOAD by tests/crash/test_receiver_disk.py, which compiles it. For files in DISK_FOLDER:
 *   - a flush first reads DISK_ORDERS, a file of two numbers: milliseconds to wait, then an errno to fail with (or 0);
 *   - after each flush that succeeds, the file is copied to DISK_SYNCED: what is there is what a power cut could not take.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int path_of(int descriptor, char *path) {
    char link[64];
    const char *folder = getenv("DISK_FOLDER");
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0 || folder == NULL) return 0;
    path[length] = 0;
    struct stat about;
    return strncmp(path, folder, strlen(folder)) == 0 && fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode);
}

static int obey(void) {
    const char *orders = getenv("DISK_ORDERS");
    FILE *file = orders ? fopen(orders, "r") : NULL;
    long milliseconds = 0;
    int number = 0;
    if (file == NULL) return 0;
    if (fscanf(file, "%ld %d", &milliseconds, &number) != 2) milliseconds = number = 0;
    fclose(file);
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
    return number;
}

/* A copy under another name, then renamed: a kill in between leaves the copy of the flush before. */
static void keep(const char *path) {
    const char *synced = getenv("DISK_SYNCED");
    char draft[PATH_MAX + 8], final[PATH_MAX];
    if (synced == NULL) return;
    snprintf(final, sizeof final, "%s/%s", synced, strrchr(path, '/') + 1);
    snprintf(draft, sizeof draft, "%s.draft", final);
    int from = open(path, O_RDONLY), to = open(draft, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    char buffer[65536];
    ssize_t count;
    while ((count = read(from, buffer, sizeof buffer)) > 0)
        if (write(to, buffer, count) != count) abort();
    close(from);
    close(to);
    rename(draft, final);
}

static int flush(const char *name, int descriptor) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    char path[PATH_MAX];
    if (!path_of(descriptor, path)) return real(descriptor);
    int number = obey();
    if (number) {
        errno = number;
        return -1;
    }
    int result = real(descriptor);
    if (result == 0) keep(path);
    return result;
}

int fsync(int descriptor) { return flush("fsync", descriptor); }
int fdatasync(int descriptor) { return flush("fdatasync", descriptor); }
