/* SPDX-License-Identifier: MIT
 *
 * A timer descriptor says "run now" as well as "run then", so that work made outside of pro_run needs no other means. */
#include "embed.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "check.h"

void proi_embed_init(struct proi_embed *embed)
{
    embed->fd = embed->timer = -1;
}

static int watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

int proi_embed_open(struct proi_embed *embed, int source)
{
    if (embed->fd >= 0)
        return embed->fd;
    int fd = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0 || timer < 0 || watch(fd, source) < 0 || watch(fd, timer) < 0) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        if (timer >= 0)
            close(timer);
        return -error;
    }
    embed->fd = fd;
    embed->timer = timer;
    return fd;
}

int proi_embed_watch(const struct proi_embed *embed, int source)
{
    return embed->fd >= 0 && watch(embed->fd, source) < 0 ? -errno : 0;
}

void proi_embed_arm(const struct proi_embed *embed, uint64_t until)
{
    struct itimerspec when = {{0, 0}, {0, 0}};
    until = until ? until : 1; /* 0 would disarm; 1 ns after boot is long past */
    if (until != UINT64_MAX)
        when.it_value = (struct timespec){(time_t)(until / 1000000000), (long)(until % 1000000000)};
    int r = timerfd_settime(embed->timer, TFD_TIMER_ABSTIME, &when, NULL);
    proi_assert(r == 0);
}

void proi_embed_close(struct proi_embed *embed)
{
    if (embed->fd < 0)
        return;
    close(embed->fd);
    close(embed->timer);
    proi_embed_init(embed);
}
