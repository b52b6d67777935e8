/* Loaded before libc: ends the process, or fills the disk, at the n-th call that changes a file.

   fault_arm(at, mode): 0 count only; 1 SIGKILL before the call; 2 SIGKILL in the middle of it (half
   of a write is written; anything else is done); 3 from this call on nothing finds room.
   fault_count(): calls since then. Standard streams, pipes and devices do not count.

   Where TUNEOFF_FAULT names a file that holds "<at> <mode> <forks>", so many forks pass and the next
   one removes it and arms its child, which leaves its count in <file>.count if it ends by itself. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int armed, mode, target, count;

void fault_arm(int at, int how) { armed = 1; target = at; mode = how; count = 0; }
int fault_count(void) { armed = 0; return count; }

static void die(void) { kill(getpid(), SIGKILL); pause(); }

/* 0: go on; 1: no room; 2: do it, then die. */
static int meet(void) {
  if (!armed) return 0;
  count++;
  if (mode == 3) return count >= target;
  if (count != target || mode == 0) return 0;
  if (mode == 1) die();
  return 2;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define SIMPLE(name, params, args, full)                                   \
  int name params {                                                        \
    REAL(name);                                                            \
    int met = meet();                                                      \
    if (met == 1 && full) { errno = ENOSPC; return -1; }                   \
    int result = real args;                                                \
    if (met == 2) die();                                                   \
    return result;                                                         \
  }

static int is_file(int fd) {
  struct stat found;
  return armed && fd > 2 && fstat(fd, &found) == 0 && S_ISREG(found.st_mode);
}

#define WRITE(name, params, whole, half)                                   \
  ssize_t name params {                                                    \
    REAL(name);                                                            \
    int met = is_file(fd) ? meet() : 0;                                    \
    if (met == 1) { errno = ENOSPC; return -1; }                           \
    if (met == 2) { real half; die(); }                                    \
    return real whole;                                                     \
  }

WRITE(write, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, size / 2))
WRITE(writev, (int fd, const struct iovec *parts, int many), (fd, parts, many), (fd, parts, 1))
WRITE(pwrite, (int fd, const void *data, size_t size, off_t at),
      (fd, data, size, at), (fd, data, size / 2, at))
WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t at),
      (fd, data, size, at), (fd, data, size / 2, at))

SIMPLE(fsync, (int fd), (fd), 1)
SIMPLE(fdatasync, (int fd), (fd), 1)
SIMPLE(ftruncate, (int fd, off_t size), (fd, size), 1)
SIMPLE(ftruncate64, (int fd, off64_t size), (fd, size), 1)
SIMPLE(mkdir, (const char *path, mode_t bits), (path, bits), 1)
SIMPLE(symlink, (const char *to, const char *path), (to, path), 1)
SIMPLE(rename, (const char *from, const char *to), (from, to), 1)
SIMPLE(unlink, (const char *path), (path), 0)
SIMPLE(unlinkat, (int fd, const char *path, int flags), (fd, path, flags), 0)
SIMPLE(rmdir, (const char *path), (path), 0)

/* A new name takes room; a file that is there, or a device, takes none. */
static int is_new(int at, const char *path, int flags) {
  return armed && (flags & O_CREAT) && faccessat(at, path, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
}

#define OPEN(name, params, args, at)                                       \
  int name params {                                                        \
    REAL(name);                                                            \
    mode_t bits = 0;                                                       \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                 \
      va_list rest;                                                        \
      va_start(rest, flags);                                               \
      bits = va_arg(rest, mode_t);                                         \
      va_end(rest);                                                        \
    }                                                                      \
    int met = is_new(at, path, flags) ? meet() : 0;                        \
    if (met == 1) { errno = ENOSPC; return -1; }                           \
    int result = real args;                                                \
    if (met == 2) die();                                                   \
    return result;                                                         \
  }

OPEN(open, (const char *path, int flags, ...), (path, flags, bits), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), (path, flags, bits), AT_FDCWD)
OPEN(openat, (int fd, const char *path, int flags, ...), (fd, path, flags, bits), fd)
OPEN(openat64, (int fd, const char *path, int flags, ...), (fd, path, flags, bits), fd)

static void arm_child(void) {
  int at, how, pass = 0;
  const char *name = getenv("TUNEOFF_FAULT");
  FILE *asked = name ? fopen(name, "r") : NULL;
  armed = 0;
  if (!asked) return;
  int parts = fscanf(asked, "%d %d %d", &at, &how, &pass);
  fclose(asked);
  unlink(name);
  if (parts == 3 && pass > 0) {
    if ((asked = fopen(name, "w"))) { fprintf(asked, "%d %d %d", at, how, pass - 1); fclose(asked); }
  } else if (parts >= 2) {
    fault_arm(at, how);
  }
}

__attribute__((constructor)) static void watch_forks(void) {
  if (getenv("TUNEOFF_FAULT")) pthread_atfork(NULL, NULL, arm_child);
}

void _exit(int code) {
  void (*real)(int) __attribute__((noreturn)) = dlsym(RTLD_NEXT, "_exit");
  const char *name = getenv("TUNEOFF_FAULT");
  char path[4096];
  if (armed && name && strlen(name) < sizeof path - 8) {
    int calls = fault_count();
    FILE *file = fopen(strcat(strcpy(path, name), ".count"), "w");
    if (file) { fprintf(file, "%d", calls); fclose(file); }
  }
  real(code);
}
