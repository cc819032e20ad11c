/* The floor: a 1:1 relay of bytes. What no proxy can do without: two recv and two send for a request.
 *
 *     relay ADDRESS PORT BACKEND_ADDRESS BACKEND_PORT...
 *
 * Without a backend it only accepts: what a connection costs somebody who does nothing with it.
 * One connection to a backend, by turns, for each connection of a client; it understands nothing. A send that would
 * block waits: what is measured with it never reads and writes against each other. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DESCRIPTORS = 65536, BATCH = 512 };
static int peer_of[DESCRIPTORS];
static char buffer[65536];

static struct sockaddr_in address_of(const char *host, const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "relay: %s is no address\n", host);
        exit(1);
    }
    return address;
}

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void begin(int epoll, int client, const struct sockaddr_in *backend)
{
    int upstream = socket(AF_INET, SOCK_STREAM, 0);
    if (upstream < 0 || connect(upstream, (const struct sockaddr *)backend, sizeof *backend) != 0) {
        if (upstream >= 0)
            close(upstream);
        close(client);
        return;
    }
    peer_of[client] = upstream;
    peer_of[upstream] = client;
    watch(epoll, client);
    watch(epoll, upstream);
}

static void end(int fd)
{
    int peer = peer_of[fd];
    peer_of[fd] = peer_of[peer] = 0;
    close(fd);
    close(peer);
}

static int send_all(int fd, const char *data, ssize_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            poll(&wait, 1, -1);
        } else if (sent < 0) {
            return -1;
        } else {
            data += sent;
            size -= sent;
        }
    }
    return 0;
}

static void pass(int fd)
{
    ssize_t size = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0 || send_all(peer_of[fd], buffer, size) != 0)
        end(fd);
}

int main(int argc, char **argv)
{
    struct epoll_event events[BATCH];
    struct sockaddr_in backends[1024], here;
    int count = argc > 4 ? argc - 4 : 0, next = 0, on = 1;
    if (argc < 3 || count > 1024)
        return 1;
    for (int i = 0; i < count; i++)
        backends[i] = address_of(argv[3], argv[4 + i]);
    here = address_of(argv[1], argv[2]);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) != 0 || listen(listener, 4096) != 0) {
        perror("relay");
        return 1;
    }
    watch(epoll, listener);
    for (;;) {
        int ready = epoll_wait(epoll, events, BATCH, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd, client;
            if (fd != listener) {
                if (peer_of[fd])
                    pass(fd);
                continue;
            }
            while ((client = accept(listener, NULL, NULL)) >= 0)
                if (count)
                    begin(epoll, client, &backends[next++ % count]);
        }
    }
}
