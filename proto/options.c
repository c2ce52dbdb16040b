/* SPDX-License-Identifier: MIT
 *
 * Every option is a row: its name, and a function that reads its value into the struct. `--name value` and
 * `--name=value` are the same. Names are not abbreviated: a script that relies on an abbreviation breaks with the
 * next option.
 *
 * A message names the option and quotes the value, escaped: "--threads 0: must be from 1 to 256, or auto". The
 * functions that read values know nothing of the option they read for; they return a phrase, and `complain` puts it
 * together.
 */
#include "options.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "frame.h"

#define DEFAULT_ADDRESS  "127.0.0.1:6789"
#define SECOND           UINT64_C(1000000000)
#define HIGH_WATER_MOST  (UINT32_C(1) << 30)
#define CONNECTIONS_MOST 10000000
#define MOMENT_MOST      1000000                           /* microseconds */
#define DURATION_MOST    (UINT64_C(10000) * 3600 * SECOND) /* ten thousand hours, far from any overflow */

const char options_help[] =
    "usage: reversed [options]\n"
    "\n"
    "Serves the reverse protocol: a frame is five digits, the length of what follows, and that many bytes;\n"
    "it is answered by the same digits and the bytes in reverse order.\n"
    "\n"
    "  --listen ADDR             host:port, [v6]:port, unix:/path or unix:@name; may be given more than "
    "once;\n"
    "                            port 0 picks one; of a name that has several addresses the first (127.0.0.1:6789)\n"
    "  --backend KIND            auto, io_uring or epoll; auto prefers io_uring and says why if it cannot "
    "(auto)\n"
    "  --threads N|auto          one loop and one listener each; auto is one for each core, but no\n"
    "                            more than connections (1)\n"
    "  --max-connections N       shared out evenly among the threads (what RLIMIT_NOFILE allows)\n"
    "  --max-frame BYTES         longest payload that is taken, 1 to 99999 (99999)\n"
    "  --idle-timeout TIME       longest pause between two frames (60s)\n"
    "  --frame-timeout TIME      longest time from the first byte of a frame to its last (10s)\n"
    "  --send-timeout TIME       longest time a peer may leave its answers unread (30s)\n"
    "  --drain-timeout TIME      longest time an orderly end takes (10s)\n"
    "  --high-water BYTES        memory owed to a peer at which it is no longer read (1MiB)\n"
    "  --spin TIME               before it sleeps, a thread looks for work this long; burns its idle core to save the "
    "sleep\n"
    "                            and the waking (0)\n"
    "  --min-wait TIME           a thread that sleeps waits this long for more work than one piece, on io_uring where\n"
    "                            the kernel can: fewer wakings when it is busy, later answers when it is not (0)\n"
    "  --without FEATURE         leaves a feature of io_uring unused, by its name in the log, such as skip_success; "
    "may\n"
    "                            be given more than once\n"
    "  --log-level LEVEL         error, warn, info or debug (info)\n"
    "  -h, --help, --version\n"
    "\n"
    "TIME is a number with ms, s, m or h; 0 is no limit. That of --spin and --min-wait may have us, and at most 1s.\n"
    "BYTES may end in KiB, MiB or GiB.\n"
    "SIGTERM and SIGINT end it in order, a second one 100 ms later or more at once; SIGUSR1 prints counters.\n"
    "Exit status: 0 a clean end, 1 a failure, 2 wrong usage, 3 an end cut short.\n";

const char client_options_help[] =
    "usage: reverse [options] [ADDR]\n"
    "\n"
    "Sends the lines of standard input to a reverse server, and writes each, reversed, to standard output.\n"
    "ADDR is host:port, [v6]:port, unix:/path or unix:@name (127.0.0.1:6789). A line has at most 99999 "
    "bytes;\n"
    "each line that is written ends with a newline, also if the last one read did not.\n"
    "\n"
    "  --backend KIND            auto, io_uring or epoll (auto)\n"
    "  --connect-timeout TIME    how long to wait for the server, at each address of its host; a number with ms, s, m "
    "or\n"
    "                            h (10s)\n"
    "  -h, --help, --version\n"
    "\n"
    "Exit status: 0 every line answered, 1 a failure, 2 wrong usage.\n";

/* ---- Values ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads digits; returns what follows them, or NULL if there are none. A number beyond 64 bits is the greatest there is,
 * which is over every limit: it is too big, and no less a number. */
static const char *take_number(const char *text, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (!is_digit(*text))
        return NULL;
    for (; is_digit(*text); text++) {
        uint64_t digit = (uint64_t)(*text - '0');
        number = number > (UINT64_MAX - digit) / 10 ? UINT64_MAX : number * 10 + digit;
    }
    *ret_number = number;
    return text;
}

struct unit {
    const char *name;
    uint64_t worth;
};

static const struct unit *find_unit(const char *name, const struct unit *units, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, units[i].name) == 0)
            return &units[i];
    return NULL;
}

const char *options_duration(const char *text, uint64_t *ret_ns)
{
    static const struct unit units[] = {{"ms", SECOND / 1000}, {"s", SECOND}, {"m", 60 * SECOND}, {"h", 3600 * SECOND}};
    static const char wrong[] = "is no duration such as 500ms, 30s, 2m, 1h or 0";
    uint64_t number;
    const char *name = take_number(text, &number);
    if (!name)
        return wrong;
    const struct unit *unit = find_unit(name, units, sizeof units / sizeof units[0]);
    if (!unit && !(number == 0 && *name == '\0'))
        return wrong;
    if (unit && number > DURATION_MOST / unit->worth)
        return "is over 10000h";
    *ret_ns = unit ? number * unit->worth : 0;
    return NULL;
}

const char *options_moment(const char *text, uint32_t *ret_us)
{
    static const struct unit units[] = {{"", 1}, {"us", 1}, {"ms", 1000}, {"s", MOMENT_MOST}};
    uint64_t number;
    const char *name = take_number(text, &number);
    const struct unit *unit = name ? find_unit(name, units, sizeof units / sizeof units[0]) : NULL;
    if (!unit || number > MOMENT_MOST / unit->worth)
        return "must be from 0 to 1s, such as 50us";
    *ret_us = (uint32_t)(number * unit->worth);
    return NULL;
}

const char *options_size(const char *text, uint32_t least, uint32_t most, uint32_t *ret_bytes)
{
    static const struct unit units[] = {{"", 1}, {"KiB", 1024}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
    uint64_t number;
    const char *name = take_number(text, &number);
    const struct unit *unit = name ? find_unit(name, units, sizeof units / sizeof units[0]) : NULL;
    if (!unit)
        return "is no number of bytes such as 65536, 64KiB or 1MiB";
    if (number > most / unit->worth)
        return "is too big";
    number *= unit->worth;
    if (number < least)
        return "is too small";
    *ret_bytes = (uint32_t)number;
    return NULL;
}

static const char *read_backend(const char *text, enum pro_backend_kind *ret)
{
    static const struct unit kinds[] = {
        {"auto", PRO_BACKEND_AUTO}, {"io_uring", PRO_BACKEND_IO_URING}, {"epoll", PRO_BACKEND_EPOLL}};
    const struct unit *kind = find_unit(text, kinds, sizeof kinds / sizeof kinds[0]);
    if (!kind)
        return "must be auto, io_uring or epoll";
    *ret = (enum pro_backend_kind)kind->worth;
    return NULL;
}

/* ---- The options of the server ---- */

static const char *set_listen(struct options *o, const char *text)
{
    if (o->listen_count == OPTIONS_LISTEN_MOST)
        return "is one address too many, 16 are taken";
    const char *wrong = address_parse(text, &o->listen[o->listen_count]);
    if (!wrong)
        o->listen_count++;
    return wrong;
}

static const char *set_backend(struct options *o, const char *text)
{
    return read_backend(text, &o->backend);
}

static const char *set_threads(struct options *o, const char *text)
{
    uint64_t n;
    if (strcmp(text, "auto") == 0) {
        o->threads = 0;
        return NULL;
    }
    const char *end = take_number(text, &n);
    if (!end || *end || n == 0 || n > OPTIONS_THREADS_MOST)
        return "must be from 1 to 256, or auto";
    o->threads = (uint32_t)n;
    return NULL;
}

static const char *set_max_connections(struct options *o, const char *text)
{
    uint64_t n;
    const char *end = take_number(text, &n);
    if (!end || *end || n == 0 || n > CONNECTIONS_MOST)
        return "must be a number from 1 to 10000000";
    o->max_connections = (uint32_t)n;
    return NULL;
}

static const char *set_max_frame(struct options *o, const char *text)
{
    return options_size(text, 1, FRAME_PAYLOAD_MAX, &o->max_frame) ? "must be from 1 to 99999 bytes" : NULL;
}

static const char *set_high_water(struct options *o, const char *text)
{
    return options_size(text, 1, HIGH_WATER_MOST, &o->high_water)
               ? "must be from 1 byte to 1GiB, such as 65536 or 64KiB"
               : NULL;
}

static const char *set_idle(struct options *o, const char *text)
{
    return options_duration(text, &o->idle_ns);
}

static const char *set_frame(struct options *o, const char *text)
{
    return options_duration(text, &o->frame_ns);
}

static const char *set_send(struct options *o, const char *text)
{
    return options_duration(text, &o->send_ns);
}

static const char *set_drain(struct options *o, const char *text)
{
    return options_duration(text, &o->drain_ns);
}

static const char *set_spin(struct options *o, const char *text)
{
    return options_moment(text, &o->spin_us);
}

static const char *set_min_wait(struct options *o, const char *text)
{
    return options_moment(text, &o->min_wait_us);
}

static const char *set_without(struct options *o, const char *text)
{
    static const struct unit features[] = {
        {"defer_taskrun", PRO_FEATURE_DEFER_TASKRUN},     {"single_issuer", PRO_FEATURE_SINGLE_ISSUER},
        {"submit_all", PRO_FEATURE_SUBMIT_ALL},           {"buffer_ring", PRO_FEATURE_BUFFER_RING},
        {"recv_multishot", PRO_FEATURE_RECV_MULTISHOT},   {"accept_multishot", PRO_FEATURE_ACCEPT_MULTISHOT},
        {"skip_success", PRO_FEATURE_SKIP_SUCCESS},       {"min_wait", PRO_FEATURE_MIN_WAIT},
        {"registered_ring", PRO_FEATURE_REGISTERED_RING},
    };
    const struct unit *feature = find_unit(text, features, sizeof features / sizeof features[0]);
    if (!feature)
        return "is no feature of io_uring that is known here, such as skip_success";
    o->features_off |= feature->worth;
    return NULL;
}

static const char *set_log_level(struct options *o, const char *text)
{
    static const struct unit levels[] = {
        {"error", LOG_ERROR}, {"warn", LOG_WARN}, {"info", LOG_INFO}, {"debug", LOG_DEBUG}};
    const struct unit *level = find_unit(text, levels, sizeof levels / sizeof levels[0]);
    if (!level)
        return "must be error, warn, info or debug";
    o->log_level = (enum log_level)level->worth;
    return NULL;
}

static const struct row {
    const char *name;
    const char *(*set)(struct options *options, const char *text);
} rows[] = {
    {"--listen", set_listen},       {"--backend", set_backend},
    {"--threads", set_threads},     {"--max-connections", set_max_connections},
    {"--max-frame", set_max_frame}, {"--idle-timeout", set_idle},
    {"--frame-timeout", set_frame}, {"--send-timeout", set_send},
    {"--drain-timeout", set_drain}, {"--high-water", set_high_water},
    {"--spin", set_spin},           {"--min-wait", set_min_wait},
    {"--without", set_without},     {"--log-level", set_log_level},
};

/* ---- Command lines ---- */

/* One argument taken apart. */
struct argument {
    char name[32];     /* "--listen"; "" for what is no option, or no option that could exist */
    const char *value; /* behind '=', else the next argument, else NULL */
    int used;          /* arguments taken if the value is */
};

static struct argument take_apart(int left, char *const argv[])
{
    struct argument it = {.value = left > 1 ? argv[1] : NULL, .used = 2};
    const char *equals = strchr(argv[0], '=');
    size_t size = equals ? (size_t)(equals - argv[0]) : strlen(argv[0]);
    if (argv[0][0] != '-' || size >= sizeof it.name)
        return it;
    memcpy(it.name, argv[0], size);
    if (equals) {
        it.value = equals + 1;
        it.used = 1;
    }
    return it;
}

static enum options_outcome complain(char error[OPTIONS_ERROR_SIZE], const char *what, const char *value,
                                     const char *wrong)
{
    char name[64], text[96];
    log_escape(name, sizeof name, what, strlen(what));
    if (value) {
        log_escape(text, sizeof text, value, strlen(value));
        snprintf(error, OPTIONS_ERROR_SIZE, "%s %s: %s", name, text, wrong);
    } else {
        snprintf(error, OPTIONS_ERROR_SIZE, "%s: %s", name, wrong);
    }
    return OPTIONS_ERROR;
}

/* --help and --version, which both programs have. */
static bool is_common(const char *argument, enum options_outcome *ret_outcome)
{
    bool help = strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
    if (!help && strcmp(argument, "--version") != 0)
        return false;
    *ret_outcome = help ? OPTIONS_HELP : OPTIONS_VERSION;
    return true;
}

static enum options_outcome read_argument(struct options *o, int left, char *const argv[], int *ret_used,
                                          char error[OPTIONS_ERROR_SIZE])
{
    struct argument it = take_apart(left, argv);
    const struct row *row = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(it.name, rows[i].name) == 0)
            row = &rows[i];
    if (!row)
        return complain(error, argv[0], NULL, "there is no such option; --help lists them");
    if (!it.value)
        return complain(error, row->name, NULL, "needs a value");
    const char *wrong = row->set(o, it.value);
    if (wrong)
        return complain(error, row->name, it.value, wrong);
    *ret_used = it.used;
    return OPTIONS_RUN;
}

static enum options_outcome check_together(const struct options *o, char error[OPTIONS_ERROR_SIZE])
{
    char wrong[96];
    if (!o->max_connections || o->threads <= o->max_connections)
        return OPTIONS_RUN;
    snprintf(wrong, sizeof wrong, "must be at least --threads (%u), so that each thread has one", o->threads);
    return complain(error, "--max-connections", NULL, wrong);
}

enum options_outcome options_read(int argc, char *const argv[], struct options *ret_options,
                                  char error[OPTIONS_ERROR_SIZE])
{
    struct options o = {.backend = PRO_BACKEND_AUTO,
                        .log_level = LOG_INFO,
                        .threads = 1,
                        .max_frame = FRAME_PAYLOAD_MAX,
                        .high_water = UINT32_C(1) << 20,
                        .idle_ns = 60 * SECOND,
                        .frame_ns = 10 * SECOND,
                        .send_ns = 30 * SECOND,
                        .drain_ns = 10 * SECOND};
    enum options_outcome outcome;
    for (int i = 1, used; i < argc; i += used) {
        used = 1;
        if (is_common(argv[i], &outcome))
            return outcome;
        outcome = read_argument(&o, argc - i, argv + i, &used, error);
        if (outcome != OPTIONS_RUN)
            return outcome;
    }
    if (o.listen_count == 0)
        set_listen(&o, DEFAULT_ADDRESS);
    outcome = check_together(&o, error);
    if (outcome == OPTIONS_RUN)
        *ret_options = o;
    return outcome;
}

/* ---- The client ---- */

static enum options_outcome read_client_argument(struct client_options *o, int left, char *const argv[], int *ret_used,
                                                 char error[OPTIONS_ERROR_SIZE])
{
    struct argument it = take_apart(left, argv);
    bool backend = strcmp(it.name, "--backend") == 0, connect = strcmp(it.name, "--connect-timeout") == 0;
    if (!backend && !connect)
        return complain(error, argv[0], NULL, "there is no such option; --help lists them");
    if (!it.value)
        return complain(error, it.name, NULL, "needs a value");
    const char *wrong = backend ? read_backend(it.value, &o->backend) : options_duration(it.value, &o->connect_ns);
    if (wrong)
        return complain(error, it.name, it.value, wrong);
    *ret_used = it.used;
    return OPTIONS_RUN;
}

enum options_outcome client_options_read(int argc, char *const argv[], struct client_options *ret_options,
                                         char error[OPTIONS_ERROR_SIZE])
{
    struct client_options o = {.backend = PRO_BACKEND_AUTO, .connect_ns = 10 * SECOND};
    const char *where = DEFAULT_ADDRESS;
    bool given = false;
    enum options_outcome outcome;
    for (int i = 1, used; i < argc; i += used) {
        used = 1;
        if (is_common(argv[i], &outcome))
            return outcome;
        if (argv[i][0] != '-') {
            if (given)
                return complain(error, argv[i], NULL, "is one address too many");
            where = argv[i];
            given = true;
            continue;
        }
        outcome = read_client_argument(&o, argc - i, argv + i, &used, error);
        if (outcome != OPTIONS_RUN)
            return outcome;
    }
    const char *wrong = address_parse(where, &o.server);
    if (wrong)
        return complain(error, where, NULL, wrong);
    *ret_options = o;
    return OPTIONS_RUN;
}
