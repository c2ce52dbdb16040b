/* SPDX-License-Identifier: MIT
 *
 * Asio, without Boost: the library that proactors in C++ are compared with. One source, two programs: on epoll, and on
 * io_uring (ASIO_HAS_IO_URING and ASIO_DISABLE_EPOLL).
 *
 *     async_read_some --> answers in place --> send --> what is left of a frame moves to the front --> and again
 *
 * A connection has a buffer of its own, as an asynchronous receive needs one, small at first and larger once a receive
 * fills it, up to a frame. On epoll an answer is first tried at once; on io_uring it goes through the ring, which is
 * what that is for. The context is one thread's own, and so without locks. */
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include <asio.hpp>

#include "codec.h"
#include "server.h"

namespace
{

constexpr std::size_t first_room = 4096;
constexpr std::size_t most_room = 128 * 1024;

#if defined(ASIO_HAS_IO_URING)
constexpr bool tries_at_once = false;
#else
constexpr bool tries_at_once = true;
#endif

using asio::ip::tcp;

/* Lives from the accept until the last of its handlers is through; there is never more than one. */
class peer
{
  public:
    explicit peer(tcp::socket socket) : socket_(std::move(socket)), data_(allocate(nullptr, first_room))
    {
        asio::error_code ignored;
        socket_.non_blocking(true, ignored);
    }

    ~peer()
    {
        std::free(data_);
    }

    peer(const peer &) = delete;
    peer &operator=(const peer &) = delete;

    void receive()
    {
        socket_.async_read_some(asio::buffer(data_ + size_, room_ - size_),
                                [this](const asio::error_code &error, std::size_t size) { received(error, size); });
    }

  private:
    static std::uint8_t *allocate(std::uint8_t *old, std::size_t size)
    {
        auto *data = static_cast<std::uint8_t *>(std::realloc(old, size));
        if (!data)
            server_die("realloc", ENOMEM);
        return data;
    }

    void received(const asio::error_code &error, std::size_t size)
    {
        if (error) {
            delete this;
            return;
        }
        if (bad_) {
            receive();
            return;
        }
        size_ += size;
        span_ = codec_in_place(data_, size_);
        bad_ = span_.bad;
        if (span_.answers > 0)
            send();
        else
            sent();
    }

    void send()
    {
        std::size_t done = 0;
        if (tries_at_once) {
            asio::error_code error;
            done = socket_.write_some(asio::buffer(data_, span_.answers), error);
            if (done == span_.answers) {
                sent();
                return;
            }
        }
        asio::async_write(socket_, asio::buffer(data_ + done, span_.answers - done),
                          [this](const asio::error_code &error, std::size_t) {
                              if (error)
                                  delete this;
                              else
                                  sent();
                          });
    }

    void sent()
    {
        if (bad_) {
            asio::error_code ignored;
            socket_.shutdown(tcp::socket::shutdown_send, ignored);
            size_ = 0;
        } else {
            bool full = size_ == room_;
            size_ -= span_.rest;
            if (size_ > 0 && span_.rest > 0)
                std::memmove(data_, data_ + span_.rest, size_);
            if (full && room_ < most_room) {
                room_ *= 4;
                room_ = room_ < most_room ? room_ : most_room;
                data_ = allocate(data_, room_);
            }
        }
        receive();
    }

    tcp::socket socket_;
    std::uint8_t *data_;
    std::size_t room_ = first_room;
    std::size_t size_ = 0;
    codec_span span_{};
    bool bad_ = false;
};

void accept(tcp::acceptor &acceptor)
{
    acceptor.async_accept([&acceptor](const asio::error_code &error, tcp::socket socket) {
        if (!error)
            (new peer(std::move(socket)))->receive();
        accept(acceptor);
    });
}

void *run(void *arg)
{
    asio::io_context context(ASIO_CONCURRENCY_HINT_UNSAFE);
    tcp::acceptor acceptor(context, tcp::v4(), server_listen(static_cast<server *>(arg), SOCK_NONBLOCK).fd);
    accept(acceptor);
    context.run();
    return nullptr;
}

} // namespace

int main(int argc, char **argv)
{
    struct server server = server_begin(argc, argv);
    server_run(&server, run);
}
