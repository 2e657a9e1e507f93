/*
 * A slower disk than the machine has: in a process that this library is loaded into (LD_PRELOAD), each fsync and each
 * fdatasync takes DELAY_US microseconds longer. Nothing else changes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void wait_for_the_disk(void)
{
    struct timespec left = {DELAY_US / 1000000, DELAY_US % 1000000 * 1000L};

    while (nanosleep(&left, &left) == -1 && errno == EINTR)
        ;
}

int fsync(int file)
{
    wait_for_the_disk();
    return (int)syscall(SYS_fsync, file);
}

int fdatasync(int file)
{
    wait_for_the_disk();
    return (int)syscall(SYS_fdatasync, file);
}
