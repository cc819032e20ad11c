/* Requests at a constant rate, whatever becomes of them, each timed from when it was to be sent.
 *
 *     openloop ADDRESS PORT RATE_PER_S SECONDS CONNECTIONS
 *     openloop ADDRESS PORT 0 SECONDS CONNECTIONS AT_ONCE
 *
 * A generator that waits for an answer before it asks again does not ask while the server stalls, and so omits what a
 * user would have seen (coordinated omission). Here request number i is due at i / RATE; it goes out on a connection that
 * is idle longest, or waits for one, and its latency counts from when it was due. At rate 0 the loop is closed instead:
 * AT_ONCE requests are always under way, by turns on all the connections; a request is due when it is sent.
 *
 * Says "ready" when all connections are open, begins at a line (or the end) of its input, prints one line of JSON and
 * keeps the connections until its input ends: what they cost to open and close can be kept out of a bill.
 * Microseconds; the histogram's pairs are [greatest value of the bucket, count]. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 512, ROOM = 4096, SUB = 64, BUCKETS = 40 * SUB };
static const int64_t NS = 1000000000, GRACE_NS = 10 * 1000000000LL;

/* Log-linear, as HdrHistogram is: 64 buckets for each doubling, so a value is known to 1.6 %. */
struct histogram {
    int64_t counts[BUCKETS], total, max;
};

static int bucket_of(int64_t us)
{
    int shift = us < 2 * SUB ? 0 : 57 - __builtin_clzll((unsigned long long)us); /* leaves SUB..2*SUB-1 */
    int bucket = shift * SUB + (int)(us >> shift);
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static int64_t greatest_of(int bucket)
{
    int shift = bucket < 2 * SUB ? 0 : bucket / SUB - 1;
    int64_t base = bucket - (int64_t)shift * SUB;
    return ((base + 1) << shift) - 1;
}

static void record(struct histogram *histogram, int64_t ns)
{
    int64_t us = ns < 0 ? 0 : ns / 1000;
    histogram->counts[bucket_of(us)]++;
    histogram->total++;
    if (us > histogram->max)
        histogram->max = us;
}

static int64_t percentile(const struct histogram *histogram, double part)
{
    int64_t seen = 0, wanted = (int64_t)(part * (double)histogram->total + 0.999999);
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen >= wanted && seen)
            return greatest_of(bucket) < histogram->max ? greatest_of(bucket) : histogram->max;
    }
    return histogram->max;
}

struct connection {
    int fd;
    int busy;
    int heading;   /* its answer's head is not whole yet */
    int failed;    /* its answer is not what it should be */
    int64_t due;
    size_t have;   /* bytes of the head so far */
    int64_t body;  /* bytes still to come */
    char head[ROOM];
};

static struct sockaddr_in server;
static char request[4096];
static size_t request_size;
static int epoll;
static struct connection *connections, **idle; /* a ring: who is idle longest is asked first */
static int count, idle_count, idle_first;
static struct histogram latencies, lateness;
static int64_t errors, reconnects, answered, last_answer;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS + now.tv_nsec;
}

static void open_connection(struct connection *one)
{
    int on = 1;
    one->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (one->fd < 0 || connect(one->fd, (struct sockaddr *)&server, sizeof server) != 0) {
        perror("openloop: connect");
        exit(1);
    }
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(one->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
    epoll_ctl(epoll, EPOLL_CTL_ADD, one->fd, &event);
}

/* The request on it is over, well or not; ready for the next. */
static void finish(struct connection *one, int failed)
{
    last_answer = now_ns();
    record(&latencies, last_answer - one->due);
    answered++;
    errors += failed;
    one->busy = 0;
    idle[(idle_first + idle_count++) % count] = one;
}

static struct connection *longest_idle(void)
{
    struct connection *one = idle[idle_first];
    idle_first = (idle_first + 1) % count;
    idle_count--;
    return one;
}

static void replace(struct connection *one)
{
    close(one->fd);
    open_connection(one);
    reconnects++;
    if (one->busy)
        finish(one, 1);
}

static void ask(struct connection *one, int64_t due)
{
    one->busy = 1;
    one->due = due;
    one->have = 0;
    one->heading = 1;
    record(&lateness, now_ns() - due);
    if (send(one->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size)
        replace(one); /* a request is too small to be taken in part */
}

/* The head is whole: how long is the body? Only a declared length is understood. */
static void understand(struct connection *one, size_t head_size)
{
    one->head[head_size - 1] = 0;
    const char *length = strcasestr(one->head, "\r\ncontent-length:");
    one->failed = strncmp(one->head, "HTTP/1.1 200 ", 13) != 0 || !length;
    one->heading = 0;
    one->body = (length ? atoll(length + 17) : 0) - (int64_t)(one->have - head_size);
}

static void hear(struct connection *one)
{
    static char spare[65536];
    char *to = one->heading ? one->head + one->have : spare;
    size_t room = one->heading ? ROOM - 1 - one->have : sizeof spare;
    ssize_t size = recv(one->fd, to, room, 0);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0 || !one->busy) {
        replace(one);
        return;
    }
    if (one->heading) {
        one->have += (size_t)size;
        one->head[one->have] = 0;
        char *end = strstr(one->head, "\r\n\r\n");
        if (end)
            understand(one, (size_t)(end - one->head) + 4);
    } else {
        one->body -= size;
    }
    if ((one->heading && one->have == ROOM - 1) || (!one->heading && one->body < 0))
        replace(one); /* no end of the head, or more than the length that it declared */
    else if (!one->heading && one->body == 0)
        finish(one, one->failed);
}

static void arm(int timer, int64_t at)
{
    struct itimerspec when = {.it_value = {.tv_sec = at / NS, .tv_nsec = at % NS}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* When request number `number` is due. */
static int64_t due_at(int64_t began, double rate, int64_t number)
{
    return rate > 0 ? began + (int64_t)((double)number / rate * (double)NS) : now_ns();
}

static void run(double rate, double seconds, int at_once)
{
    struct epoll_event events[BATCH], ticked = {.events = EPOLLIN, .data.ptr = NULL};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &ticked);
    int64_t began = now_ns(), stops = began + (int64_t)(seconds * (double)NS), asked = 0;
    int64_t requests = rate > 0 ? (int64_t)(rate * seconds) : INT64_MAX;
    while ((answered < asked || asked < requests) && now_ns() < stops + GRACE_NS) {
        if (rate <= 0 && now_ns() >= stops)
            requests = asked;
        while (asked < requests && idle_count && asked - answered < at_once && due_at(began, rate, asked) <= now_ns()) {
            ask(longest_idle(), due_at(began, rate, asked));
            asked++;
        }
        if (asked < requests && idle_count && rate > 0)
            arm(timer, due_at(began, rate, asked));
        int ready = epoll_wait(epoll, events, BATCH, 100);
        for (int i = 0; i < ready; i++) {
            uint64_t ticks;
            if (events[i].data.ptr)
                hear(events[i].data.ptr);
            else if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN)
                perror("openloop: timer");
        }
    }
    errors += requests - answered;
    printf("{\"requests\": %lld, \"us\": %lld, ", (long long)answered, (long long)((last_answer - began) / 1000));
}

static void report(void)
{
    printf("\"errors\": %lld, \"reconnects\": %lld, ", (long long)errors, (long long)reconnects);
    printf("\"p50\": %lld, \"p90\": %lld, ", (long long)percentile(&latencies, .5), (long long)percentile(&latencies, .9));
    printf("\"p99\": %lld, \"p999\": %lld, ", (long long)percentile(&latencies, .99), (long long)percentile(&latencies, .999));
    printf("\"max\": %lld, \"late_p99\": %lld, ", (long long)latencies.max, (long long)percentile(&lateness, .99));
    const char *comma = "";
    printf("\"histogram\": [");
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        if (!latencies.counts[bucket])
            continue;
        printf("%s[%lld, %lld]", comma, (long long)greatest_of(bucket), (long long)latencies.counts[bucket]);
        comma = ", ";
    }
    printf("]}\n");
}

/* Wait for a line, or for the end of the input. */
static void await_word(void)
{
    char byte = 0;
    fflush(stdout);
    while (read(0, &byte, 1) == 1 && byte != '\n')
        ;
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "openloop ADDRESS PORT RATE_PER_S SECONDS CONNECTIONS [AT_ONCE]\n");
        return 2;
    }
    double rate = atof(argv[3]), seconds = atof(argv[4]);
    count = atoi(argv[5]);
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[2]))};
    if (rate < 0 || seconds <= 0 || count < 1 || inet_pton(AF_INET, argv[1], &server.sin_addr) != 1) {
        fprintf(stderr, "openloop: that cannot be\n");
        return 2;
    }
    request_size = (size_t)snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: %s:%s\r\n\r\n", argv[1], argv[2]);
    prctl(PR_SET_TIMERSLACK, 1UL); /* else a timer may be 50 us late */
    epoll = epoll_create1(0);
    connections = calloc((size_t)count, sizeof *connections);
    idle = calloc((size_t)count, sizeof *idle);
    for (int i = 0; i < count; i++) {
        open_connection(&connections[i]);
        idle[idle_count++] = &connections[i];
    }
    printf("ready\n");
    await_word();
    run(rate, seconds, argc > 6 ? atoi(argv[6]) : count);
    report();
    await_word();
    return 0;
}
