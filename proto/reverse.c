/* SPDX-License-Identifier: MIT
 *
 * The client program: command line, address, loop, exit status. What it does with the lines is in client.c.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include <proactor.h>

#include "check.h"
#include "client.h"
#include "log.h"
#include "options.h"
#include "standard.h"

#define ADDRESSES_MOST 16 /* of a host, that are tried */

enum { STATUS_CLEAN, STATUS_FAILED, STATUS_USAGE };

struct program {
    struct log log;
    struct pro_loop *loop;
    struct pro_pool *pool;
    struct client *client;
    bool over; /* the verdict is in */
    int status;
};

/* The first verdict is the one: freeing a loop that failed brings another, from the client. */
__attribute__((format(printf, 2, 3))) static void fail(struct program *program, const char *format, ...)
{
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (program->over)
        return;
    program->over = true;
    program->status = STATUS_FAILED;
    log_always(&program->log, "%s", message);
}

static void on_done(void *context, const char *failure)
{
    struct program *program = context;
    if (failure)
        fail(program, "%s", failure);
    program->over = true;
}

static bool make_loop(struct program *program, enum pro_backend_kind backend)
{
    struct pro_config config = PRO_CONFIG_INIT;
    struct pro_pool_config pool = PRO_POOL_CONFIG_INIT;
    config.backend = backend;
    pool.max_buffers = 64;
    int error = pro_loop_new(&config, &program->loop);
    if (error) {
        fail(program, "cannot start: %s (%s)", pro_error_name(error), standard_backend_cause(backend, error));
        return false;
    }
    error = pro_pool_new(program->loop, &pool, &program->pool);
    if (error)
        fail(program, "cannot start: %s (%s)", pro_error_name(error), pro_error_text(error));
    return !error;
}

static void run(struct program *program, struct client_config *config)
{
    config->pool = program->pool;
    if (client_start(program->loop, config, &program->client) < 0) {
        fail(program, "out of memory");
        return;
    }
    int result = pro_run(program->loop, PRO_RUN_DEFAULT);
    if (result < 0)
        fail(program, "the loop failed: %s (%s)", pro_error_name(result), pro_error_text(result));
    CHECK(program->over);
}

static void reverse(struct program *program, const struct client_options *options)
{
    struct address_found found[ADDRESSES_MOST];
    struct client_config config = {.servers = found,
                                   .connect_ns = options->connect_ns,
                                   .in = STDIN_FILENO,
                                   .out = STDOUT_FILENO,
                                   .done = on_done,
                                   .context = program};
    const char *wrong = address_find(&options->server, found, ADDRESSES_MOST, &config.server_count);
    if (wrong)
        fail(program, "%s: %s", options->server.name, wrong);
    else if (make_loop(program, options->backend))
        run(program, &config);
    pro_loop_free(program->loop);
    pro_pool_free(program->pool);
    client_free(program->client);
}

int main(int argc, char *argv[])
{
    struct program program = {0};
    struct client_options options;
    char error[OPTIONS_ERROR_SIZE];
    standard_descriptors();
    standard_signals();
    log_init(&program.log, "reverse", STDERR_FILENO, LOG_INFO, 0);
    switch (client_options_read(argc, argv, &options, error)) {
    case OPTIONS_HELP:
        return standard_print(&program.log, client_options_help);
    case OPTIONS_VERSION:
        return standard_print_version(&program.log);
    case OPTIONS_ERROR:
        log_always(&program.log, "%s", error);
        return STATUS_USAGE;
    case OPTIONS_RUN:
        break;
    }
    reverse(&program, &options);
    return program.status;
}
