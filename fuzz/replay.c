/* SPDX-License-Identifier: MIT
 *
 * Runs a fuzz target over files: `fuzz_frame FILE|FOLDER...`, or over standard input when there is no argument. For
 * machines without a fuzzer, for debuggers, and for the tests, which replay what fuzzers have found.
 *
 * An input that crashes is named on standard error. Exit status: 0 every input ran, 2 one could not be read.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fuzz.h"

#define INPUT_MOST ((size_t)1 << 20)

static const char *now_running = "";

/* An abort, or a fault that no sanitizer has its eyes on. */
static void name_input(int number)
{
    struct iovec line[] = {{(char *)(uintptr_t) "crashed by ", 11},
                           {(char *)(uintptr_t)now_running, strlen(now_running)},
                           {(char *)(uintptr_t) "\n", 1}};
    struct sigaction dies = {.sa_handler = SIG_DFL};
    if (writev(STDERR_FILENO, line, 3) < 0 || sigaction(number, &dies, NULL) != 0)
        _exit(2);
    raise(number);
}

static void catch_crashes(void)
{
    static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction before, ours = {.sa_handler = name_input};
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
            (void)sigaction(numbers[i], &ours, NULL);
    }
}

static _Noreturn void give_up(const char *path, const char *why)
{
    fprintf(stderr, "%s: %s\n", path, why);
    exit(2);
}

/* The bytes are copied into memory of just that size, so that a sanitizer sees a read behind them. */
static void replay_bytes(const char *path, const uint8_t *bytes, size_t size)
{
    uint8_t *input = malloc(size > 0 ? size : 1);
    if (!input)
        give_up(path, strerror(ENOMEM));
    memcpy(input, bytes, size);
    now_running = path;
    LLVMFuzzerTestOneInput(input, size);
    free(input);
}

static void replay_descriptor(const char *path, int fd)
{
    static uint8_t bytes[INPUT_MOST];
    size_t size = 0;
    ssize_t n;
    while ((n = read(fd, bytes + size, sizeof bytes - size)) > 0)
        size += (size_t)n;
    if (n < 0)
        give_up(path, strerror(errno));
    if (size == sizeof bytes)
        give_up(path, "too long for an input");
    replay_bytes(path, bytes, size);
}

static void replay_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        give_up(path, strerror(errno));
    replay_descriptor(path, fd);
    close(fd);
}

/* The files of a folder, but none below it. */
static unsigned replay_folder(const char *path, DIR *folder)
{
    struct dirent *entry;
    unsigned count = 0;
    while ((entry = readdir(folder)) != NULL) {
        char name[4096];
        struct stat about;
        if ((size_t)snprintf(name, sizeof name, "%s/%s", path, entry->d_name) >= sizeof name)
            give_up(path, strerror(ENAMETOOLONG));
        if (stat(name, &about) != 0)
            give_up(name, strerror(errno));
        if (S_ISDIR(about.st_mode))
            continue;
        replay_file(name);
        count++;
    }
    if (count == 0)
        give_up(path, "no input in there");
    return count;
}

int main(int argc, char **argv)
{
    unsigned count = 0;
    catch_crashes();
    if (argc == 1) {
        replay_descriptor("standard input", STDIN_FILENO);
        count = 1;
    }
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (folder) {
            count += replay_folder(argv[i], folder);
            closedir(folder);
        } else {
            replay_file(argv[i]);
            count++;
        }
    }
    printf("%s: %u inputs replayed\n", argv[0], count);
    return 0;
}
