/* SPDX-License-Identifier: MIT
 *
 * The check of correctness that a server has to pass before it is timed.
 *
 * A talk is one connection: what is sent, in which pieces, what is expected, and how it ends. The talks of a case run
 * at the same time, non-blocking in both directions, so that a server is never waited for while it waits to be read
 * from. Every byte of every answer is compared, and after the last one the server has to end the connection cleanly:
 * end of file, no reset.
 *
 * All that is random comes from the seed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum { TALKS = 16, STALL_MS = 10000, LATE_MS = 100, EXCHANGES = 300 };

enum pieces { WHOLE, RANDOM, BYTES };

struct talk {
    uint8_t *request, *answer;
    size_t request_size, answer_size, room;
    size_t sent, received;
    uint64_t *seed;
    enum pieces pieces;
    int fd;
    bool keep_open; /* the server ends the connection by itself: after a bad header */
    bool late;      /* reads nothing before the server takes no more */
    bool over;
};

static void add_bytes(struct talk *talk, const void *request, size_t request_size, const void *answer,
                      size_t answer_size)
{
    size_t needed = talk->request_size + request_size;
    if (needed > talk->room) {
        talk->room = 2 * needed;
        talk->request = realloc(talk->request, talk->room);
        talk->answer = realloc(talk->answer, talk->room);
        if (!talk->request || !talk->answer)
            load_die("out of memory");
    }
    memcpy(talk->request + talk->request_size, request, request_size);
    talk->request_size += request_size;
    if (answer_size)
        memcpy(talk->answer + talk->answer_size, answer, answer_size);
    talk->answer_size += answer_size;
}

static void add_frame(struct talk *talk, uint32_t length)
{
    static uint8_t request[PATTERN_HEADER + PATTERN_PAYLOAD_MAX], answer[sizeof request];
    pattern_frame(request, answer, length, talk->seed);
    add_bytes(talk, request, PATTERN_HEADER + length, answer, PATTERN_HEADER + length);
}

/* 1 to `most`, every magnitude as likely as any other. */
static uint32_t random_length(struct talk *talk, uint32_t most)
{
    uint32_t length = (uint32_t)(pattern_draw(talk->seed) % most + 1) >> pattern_draw(talk->seed) % 17;
    return length ? length : 1;
}

static void add_random_frames(struct talk *talk, uint32_t count, uint32_t most)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t skipped = pattern_draw(talk->seed) % 8;
        if (skipped < 3)
            add_bytes(talk, &"\r\n\n"[skipped], 3 - skipped, NULL, 0);
        add_frame(talk, random_length(talk, most));
    }
}

static void boundary_sizes(struct talk *talk, uint32_t index)
{
    static const uint32_t around[] = {1, 8, 16, 32, 64, 128, 256, 1024, 4096, 8192, 16384, 32768, 65536, 99998};
    talk->pieces = index % 2 ? RANDOM : WHOLE;
    for (size_t i = 0; i < sizeof around / sizeof around[0]; i++) {
        for (uint32_t length = around[i] > 8 ? around[i] - 7 : 1; length <= around[i] + 1; length++)
            add_frame(talk, length);
    }
}

static void random_frames(struct talk *talk, uint32_t index)
{
    talk->pieces = RANDOM;
    add_random_frames(talk, 100, PATTERN_PAYLOAD_MAX);
}

static void pipelined_frames(struct talk *talk, uint32_t index)
{
    talk->pieces = WHOLE;
    add_random_frames(talk, 5000, 200);
}

static void byte_by_byte(struct talk *talk, uint32_t index)
{
    talk->pieces = BYTES;
    add_random_frames(talk, 20, 100);
}

static void large_frames(struct talk *talk, uint32_t index)
{
    talk->pieces = WHOLE;
    for (int i = 0; i < 20; i++)
        add_frame(talk, PATTERN_PAYLOAD_MAX - (uint32_t)(pattern_draw(talk->seed) % 3));
}

/* The server's socket fills up, so that its answers are cut anywhere, and wait. */
static void late_reader(struct talk *talk, uint32_t index)
{
    talk->late = true;
    talk->pieces = WHOLE;
    /* More than a socket takes: tcp_wmem allows it 4 MiB. */
    for (int i = 0; i < (index < 2 ? 80 : 1); i++)
        add_frame(talk, PATTERN_PAYLOAD_MAX);
    add_random_frames(talk, 100, 2000);
}

static void bad_header(struct talk *talk, uint32_t index)
{
    static const char bad[][6] = {"00000", "x", "0000x", "-0001", " 0001", "1\r\n", "0x001", "99 99"};
    talk->pieces = index < 8 ? WHOLE : RANDOM;
    talk->keep_open = true;
    add_random_frames(talk, index, 2000);
    add_bytes(talk, bad[index % 8], strlen(bad[index % 8]), NULL, 0);
}

static void cut_inside_a_frame(struct talk *talk, uint32_t index)
{
    static const char begun[] = "00100 and then nothing";
    talk->pieces = RANDOM;
    add_random_frames(talk, index, 2000);
    add_bytes(talk, begun, 1 + index % (sizeof begun - 1), NULL, 0);
}

static void nothing_said(struct talk *talk, uint32_t index)
{
    if (index % 2)
        add_bytes(talk, "\r\n\r\n", 4, NULL, 0);
}

static void one_exchange(struct talk *talk, uint32_t index)
{
    add_frame(talk, 64);
}

static const struct {
    const char *name;
    void (*make)(struct talk *talk, uint32_t index);
    uint32_t rounds;
} cases[] = {
    {"boundary sizes", boundary_sizes, 1},
    {"random frames in random pieces", random_frames, 2},
    {"pipelined frames", pipelined_frames, 2},
    {"byte by byte", byte_by_byte, 1},
    {"large frames", large_frames, 2},
    {"a peer that reads late", late_reader, 1},
    {"bad header after good frames", bad_header, 4},
    {"end of file inside a frame", cut_inside_a_frame, 2},
    {"end of file and no frame", nothing_said, 1},
    {"one frame on each connection", one_exchange, EXCHANGES / TALKS},
};

static size_t piece(struct talk *talk)
{
    size_t left = talk->request_size - talk->sent;
    size_t size = talk->pieces == BYTES ? 1 : talk->pieces == RANDOM ? random_length(talk, 65536) : left;
    return size < left ? size : left;
}

/* NULL, or what is wrong. */
static const char *speak(struct talk *talk)
{
    ssize_t size = send(talk->fd, talk->request + talk->sent, piece(talk), MSG_NOSIGNAL);
    if (size < 0)
        return errno == EAGAIN ? NULL : "the connection broke before all was sent";
    talk->sent += (size_t)size;
    if (talk->sent == talk->request_size && !talk->keep_open && shutdown(talk->fd, SHUT_WR) < 0)
        return "the connection broke before all was sent";
    return NULL;
}

static const char *hear(struct talk *talk)
{
    static uint8_t data[65536];
    ssize_t size = recv(talk->fd, data, sizeof data, 0);
    if (size < 0)
        return errno == EAGAIN ? NULL : "reset in place of an end of file";
    talk->over = size == 0;
    if (size == 0)
        return talk->received == talk->answer_size ? NULL : "closed before all was answered";
    if ((size_t)size > talk->answer_size - talk->received)
        return "more answers than there were frames";
    if (memcmp(talk->answer + talk->received, data, (size_t)size) != 0)
        return "a wrong answer";
    talk->received += (size_t)size;
    return NULL;
}

static const char *converse(struct talk talks[TALKS])
{
    for (;;) {
        struct pollfd polls[TALKS];
        int open = 0, late = 0;
        for (int i = 0; i < TALKS; i++) {
            bool more = talks[i].sent < talks[i].request_size;
            open += !talks[i].over;
            late += talks[i].late;
            polls[i] = (struct pollfd){.fd = talks[i].over ? -1 : talks[i].fd,
                                       .events = (short)((talks[i].late ? 0 : POLLIN) | (more ? POLLOUT : 0))};
        }
        if (!open)
            return NULL;
        int ready = poll(polls, TALKS, late ? LATE_MS : STALL_MS);
        if (ready <= 0 && !late)
            return "nothing happens any more";
        for (int i = 0; i < TALKS && ready <= 0; i++)
            talks[i].late = false;
        for (int i = 0; i < TALKS; i++) {
            const char *wrong = NULL;
            if (ready > 0 && polls[i].revents & POLLOUT)
                wrong = speak(&talks[i]);
            if (ready > 0 && !wrong && polls[i].revents & (POLLIN | POLLHUP | POLLERR))
                wrong = hear(&talks[i]);
            if (wrong)
                return wrong;
        }
    }
}

static const char *play(uint16_t port, size_t which, uint64_t *seed)
{
    struct talk talks[TALKS] = {{.seed = seed}};
    const char *wrong = NULL;
    for (uint32_t i = 0; i < TALKS; i++) {
        talks[i].seed = seed;
        cases[which].make(&talks[i], i);
        talks[i].fd = load_connect(port, i);
        int room = 65536;
        if (talks[i].fd >= 0 && talks[i].late && setsockopt(talks[i].fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) < 0)
            load_die("setsockopt: %s", strerror(errno));
        if (talks[i].fd < 0 || fcntl(talks[i].fd, F_SETFL, O_NONBLOCK) < 0)
            load_die("cannot connect: %s", strerror(errno));
        if (!talks[i].request_size && shutdown(talks[i].fd, SHUT_WR) < 0)
            load_die("shutdown: %s", strerror(errno));
    }
    wrong = converse(talks);
    for (uint32_t i = 0; i < TALKS; i++) {
        close(talks[i].fd);
        free(talks[i].request);
        free(talks[i].answer);
    }
    return wrong;
}

bool load_check(uint16_t port, uint64_t seed)
{
    uint64_t draws = seed;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (uint32_t round = 0; round < cases[i].rounds; round++) {
            const char *wrong = play(port, i, &draws);
            if (wrong) {
                fprintf(stderr, "load: %s: %s (seed %llu)\n", cases[i].name, wrong, (unsigned long long)seed);
                return false;
            }
        }
    }
    return true;
}
