/* Loaded before libc: ends the process, or fills the disk, at the n-th call that changes a file.

   fault_arm(at, mode): 0 count only; 1 SIGKILL before the call; 2 SIGKILL in the middle of it (half
   of a write is written; anything else is done); 3 from this call on no write finds room.
   fault_count(): calls since then. Standard streams do not count. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
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

ssize_t write(int fd, const void *data, size_t size) {
  REAL(write);
  int met = fd > 2 ? meet() : 0;
  if (met == 1) { errno = ENOSPC; return -1; }
  if (met == 2) { real(fd, data, size / 2); die(); }
  return real(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int many) {
  REAL(writev);
  int met = fd > 2 ? meet() : 0;
  if (met == 1) { errno = ENOSPC; return -1; }
  if (met == 2) { real(fd, parts, 1); die(); }
  return real(fd, parts, many);
}

SIMPLE(fsync, (int fd), (fd), 1)
SIMPLE(ftruncate, (int fd, off_t size), (fd, size), 1)
SIMPLE(ftruncate64, (int fd, off64_t size), (fd, size), 1)
SIMPLE(mkdir, (const char *path, mode_t bits), (path, bits), 1)
SIMPLE(rename, (const char *from, const char *to), (from, to), 0)
SIMPLE(unlink, (const char *path), (path), 0)
SIMPLE(unlinkat, (int fd, const char *path, int flags), (fd, path, flags), 0)
SIMPLE(rmdir, (const char *path), (path), 0)
