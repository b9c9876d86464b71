/* A gRPC load generator in raw HTTP/2 frames: unary calls in a closed or an open loop, or many open streams.

   caller calls   HOST PORT PATH BODIES SECONDS CONNECTIONS IN_FLIGHT RATE LEAST SEED LEAVE TELL RECORD
   caller streams HOST PORT PATH BODIES COUNT CONNECTIONS SPREAD LEAST PATIENCE

   BODIES is a file of requests, each after its length (u32, little-endian). `calls` takes a random one for each call,
   `streams` the next one for each stream. An answer or message of less than LEAST bytes is short.

   calls: RATE 0 keeps IN_FLIGHT calls going (closed loop). RATE > 0 begins calls at random times (Poisson) of that many
   per second, whether answers came or not, and counts each from the time it was due (open loop). The first fifth of
   SECONDS is not counted. With LEAVE > 0 a call without an answer after so many milliseconds is left by resetting it;
   with TELL the server is told so in grpc-timeout. Prints one JSON object: calls/s and latencies of the calls that
   ended well, how many did not (`failed`) and of these with RESOURCE_EXHAUSTED (`refused`), how many had no end, and
   seconds of the processor that this program took. RECORD, if not -, is a file that gets (i64 nanoseconds of
   CLOCK_MONOTONIC when it was due, f32 milliseconds, i32 gRPC code) of each call that ended, counted or not.

   streams: opens COUNT streams, at random times within SPREAD seconds, and prints a JSON line when each had its first
   message, was refused, or PATIENCE seconds passed. Then, for each line "N FILE" on standard input, waits for N messages
   that are not short, writes (u32 stream, u32 size, i64 nanoseconds of CLOCK_MONOTONIC) of each into FILE, and prints a
   JSON line. Ends with its input.

   It knows as much of HTTP/2 as that needs: it announces windows that no answer fills, and a header table of no size. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RING 65536
#define WINDOW 0x40000000u
#define CANCELLED 1
#define UNKNOWN 2
#define DEADLINE_EXCEEDED 4
#define RESOURCE_EXHAUSTED 8
#define UNAVAILABLE 14

typedef struct {
    uint8_t *at;
    size_t used, room;
} Buffer;

/* What is known of one open call. `got` counts bytes of the current message, 5 bytes of its head included. */
typedef struct {
    int64_t start;
    uint32_t id, number, size, got;
    uint8_t head[5];
    uint8_t open, told;
} Flow;

/* When a call is to be left. */
typedef struct {
    int64_t at;
    uint32_t link, id;
} Leave;

/* What came of a call. */
typedef struct {
    int64_t start;
    float took;
    int32_t code;
} Ended;

typedef struct {
    int fd;
    Buffer in, out;
    uint32_t next_id, eaten;
    int under_way, writing, dead;
    Flow *flows;
    uint32_t flow_mask;
} Link;

typedef struct {
    uint32_t stream, size;
    int64_t at;
} Receipt;

static uint8_t **bodies;
static uint32_t *body_sizes, body_count;
static Buffer head;
static Link *links;
static int link_count, poller;
static uint32_t least;
static uint64_t state = 88172645463325252ull;

static int streaming;
static double *latencies;
static size_t latency_count, latency_room;
static uint64_t short_answers, failed, refusals;
static Leave *leaves;
static size_t leave_first, leave_count, leave_room;
static int64_t leave_after;
static int leave_code;
static Ended *ended;
static size_t ended_count, ended_room;
static int64_t count_from;
static uint32_t first_told, refused;
static Receipt *receipts;
static size_t receipt_count, receipt_room;

static void die(const char *what) {
    fprintf(stderr, "caller: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static uint64_t draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 2685821657736338717ull;
}

static double chance(void) { return ((draw() >> 11) + 0.5) / 9007199254740992.0; }

static void add(Buffer *b, const void *bytes, size_t size) {
    if (b->used + size > b->room) {
        b->room = (b->used + size) * 2 + 256;
        if (!(b->at = realloc(b->at, b->room))) die("memory");
    }
    memcpy(b->at + b->used, bytes, size);
    b->used += size;
}

static void add_frame(Buffer *b, uint32_t size, uint8_t type, uint8_t flags, uint32_t id) {
    uint8_t f[9] = {size >> 16, size >> 8, size, type, flags, id >> 24, id >> 16, id >> 8, id};
    add(b, f, 9);
}

static void add_u32(Buffer *b, uint32_t v) {
    uint8_t f[4] = {v >> 24, v >> 16, v >> 8, v};
    add(b, f, 4);
}

static void add_text(Buffer *b, const char *text) {
    uint8_t size = strlen(text);
    if (size > 126) errno = EINVAL, die("a header of more than 126 bytes");
    add(b, &size, 1);
    add(b, text, size);
}

/* The request's headers as HPACK literals that touch no table. TIMEOUT is in milliseconds; 0: none. */
static void make_head(const char *path, const char *authority, int timeout) {
    add(&head, "\x83\x86\x04", 3);
    add_text(&head, path);
    add(&head, "\x01", 1);
    add_text(&head, authority);
    add(&head, "\x0f\x10", 2);
    add_text(&head, "application/grpc");
    add(&head, "\x00", 1);
    add_text(&head, "te");
    add_text(&head, "trailers");
    if (timeout) {
        char text[32];
        snprintf(text, sizeof text, "%dm", timeout);
        add(&head, "\x00", 1);
        add_text(&head, "grpc-timeout");
        add_text(&head, text);
    }
}

/* One digit in Huffman's code of HPACK: 0 to 2 have five bits, 3 to 9 six. */
static int digit(uint32_t bits, int *at) {
    int five = bits >> (27 - *at) & 31, six = bits >> (26 - *at) & 63;
    *at += five < 3 ? 5 : 6;
    return five < 3 ? five : six - 0x19 + 3;
}

/* The gRPC status in a block of headers; -1 when there is none. With no table the name stands there in full. */
static int status(const uint8_t *at, uint32_t size) {
    static const uint8_t plain[] = "\x0bgrpc-status", coded[] = "\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f";
    const uint8_t *name = memmem(at, size, plain, sizeof plain - 1), *value = name + sizeof plain - 1;
    if (!name) {
        name = memmem(at, size, coded, sizeof coded - 1);
        value = name + sizeof coded - 1;
    }
    if (!name || value >= at + size) return -1;
    uint32_t length = value[0] & 0x7f;
    if (!length || length > 2 || value + length >= at + size) return UNKNOWN;
    if (!(value[0] & 0x80)) return length == 1 ? value[1] - '0' : (value[1] - '0') * 10 + value[2] - '0';
    uint32_t bits = (uint32_t)value[1] << 24 | (length > 1 ? value[2] << 16 : 0);
    int used = 0, found = digit(bits, &used);
    return length == 1 ? found : found * 10 + digit(bits, &used);
}

static void read_bodies(const char *name) {
    FILE *f = fopen(name, "rb");
    uint32_t size, room = 0;
    if (!f) die(name);
    while (fread(&size, 4, 1, f) == 1) {
        if (body_count == room) {
            room = room * 2 + 1024;
            bodies = realloc(bodies, room * sizeof *bodies);
            body_sizes = realloc(body_sizes, room * sizeof *body_sizes);
            if (!bodies || !body_sizes) die("memory");
        }
        bodies[body_count] = malloc(size + 1);
        if (!bodies[body_count] || fread(bodies[body_count], 1, size, f) != size) die(name);
        body_sizes[body_count++] = size;
    }
    fclose(f);
    if (!body_count) errno = EINVAL, die(name);
}

static void flush(Link *l) {
    size_t sent = 0;
    while (sent < l->out.used) {
        ssize_t n = send(l->fd, l->out.at + sent, l->out.used - sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) break;
            l->dead = 1;
            return;
        }
        sent += n;
    }
    memmove(l->out.at, l->out.at + sent, l->out.used - sent);
    l->out.used -= sent;
    int writing = l->out.used > 0;
    if (writing != l->writing) {
        struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = l};
        epoll_ctl(poller, EPOLL_CTL_MOD, l->fd, &e);
        l->writing = writing;
    }
}

static void open_link(Link *l, const char *host, int port, uint32_t flows) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1;
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) errno = EINVAL, die(host);
    memset(l, 0, sizeof *l);
    l->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (l->fd < 0 || connect(l->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(l->fd, F_SETFL, O_NONBLOCK);
    l->next_id = 1;
    l->flow_mask = flows - 1;
    if (!(l->flows = calloc(flows, sizeof(Flow)))) die("memory");
    add(&l->out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    add_frame(&l->out, 12, 4, 0, 0);
    add(&l->out, "\x00\x01", 2), add_u32(&l->out, 0);          /* header table */
    add(&l->out, "\x00\x04", 2), add_u32(&l->out, 0x7fffffff); /* window of a stream */
    add_frame(&l->out, 4, 8, 0, 0);
    add_u32(&l->out, WINDOW);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = l};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, l->fd, &e)) die("epoll");
}

static void begin(Link *l, uint32_t number, uint32_t body, int64_t start) {
    uint32_t id = l->next_id;
    Flow *f = &l->flows[(id >> 1) & l->flow_mask];
    if (f->open) errno = EOVERFLOW, die("too many calls under way");
    l->next_id += 2;
    *f = (Flow){.start = start, .id = id, .number = number, .open = 1};
    add_frame(&l->out, head.used, 1, 4, id);
    add(&l->out, head.at, head.used);
    add_frame(&l->out, body_sizes[body] + 5, 0, 1, id);
    uint8_t zero = 0;
    add(&l->out, &zero, 1);
    add_u32(&l->out, body_sizes[body]);
    add(&l->out, bodies[body], body_sizes[body]);
    l->under_way++;
    if (!leave_after) return;
    if (leave_count == leave_room) {
        /* Calls are left in the order they began, so what is past is at the front. */
        memmove(leaves, leaves + leave_first, (leave_count -= leave_first) * sizeof *leaves);
        leave_first = 0;
        if (leave_count * 2 >= leave_room) leave_room = leave_room * 2 + 65536;
        if (!(leaves = realloc(leaves, leave_room * sizeof *leaves))) die("memory");
    }
    leaves[leave_count++] = (Leave){start + leave_after, l - links, id};
}

static void message(Flow *f, int64_t at) {
    if (!streaming) return;
    if (!f->told) {
        f->told = 1;
        first_told++;
    } else if (f->size >= least) {
        if (receipt_count == receipt_room) {
            receipt_room = receipt_room * 2 + 65536;
            if (!(receipts = realloc(receipts, receipt_room * sizeof *receipts))) die("memory");
        }
        receipts[receipt_count++] = (Receipt){f->number, f->size, at};
    }
}

static void data(Flow *f, const uint8_t *at, uint32_t size, int64_t when) {
    while (size) {
        if (f->got < 5) {
            f->head[f->got++] = *at++;
            size--;
            if (f->got < 5) continue;
            f->size = (uint32_t)f->head[1] << 24 | f->head[2] << 16 | f->head[3] << 8 | f->head[4];
        } else {
            uint32_t left = f->size + 5 - f->got, take = left < size ? left : size;
            f->got += take, at += take, size -= take;
        }
        if (f->got == f->size + 5) {
            message(f, when);
            if (streaming) f->got = 0;
        }
    }
}

static void end(Link *l, Flow *f, int code, int64_t when) {
    f->open = 0;
    l->under_way--;
    if (streaming) {
        refused += !f->told;
        return;
    }
    if (ended_room) {
        if (ended_count == ended_room && !(ended = realloc(ended, (ended_room *= 2) * sizeof *ended))) die("memory");
        ended[ended_count++] = (Ended){f->start, (when - f->start) / 1e6, code};
    }
    if (f->start < count_from) return;
    if (code) {
        failed++;
        refusals += code == RESOURCE_EXHAUSTED;
        return;
    }
    short_answers += f->size < least;
    if (latency_count == latency_room) {
        latency_room = latency_room * 2 + 65536;
        if (!(latencies = realloc(latencies, latency_room * sizeof *latencies))) die("memory");
    }
    latencies[latency_count++] = (when - f->start) / 1e6;
}

/* Leave the calls whose time is over. */
static void leave(int64_t when) {
    for (; leave_first < leave_count && leaves[leave_first].at <= when; leave_first++) {
        Link *l = &links[leaves[leave_first].link];
        uint32_t id = leaves[leave_first].id;
        Flow *f = &l->flows[(id >> 1) & l->flow_mask];
        if (l->dead || !f->open || f->id != id) continue;
        add_frame(&l->out, 4, 3, 0, id);
        add_u32(&l->out, 8);
        end(l, f, leave_code, when);
    }
}

static void frame(Link *l, uint8_t type, uint8_t flags, uint32_t id, const uint8_t *at, uint32_t size, int64_t when) {
    Flow *f = &l->flows[(id >> 1) & l->flow_mask];
    int known = f->open && f->id == id;
    switch (type) {
    case 0:
        l->eaten += size;
        if (known) {
            if (flags & 8 && size) data(f, at + 1, size - 1 - at[0], when);
            else data(f, at, size, when);
            if (flags & 1) end(l, f, UNKNOWN, when);
        }
        if (l->eaten > WINDOW / 4) {
            add_frame(&l->out, 4, 8, 0, 0);
            add_u32(&l->out, l->eaten);
            l->eaten = 0;
        }
        break;
    case 1:
        if (known && flags & 1) {
            int code = status(at, size);
            end(l, f, code < 0 || (!code && f->got < 5) ? UNKNOWN : code, when);
        }
        break;
    case 3:
        if (known) end(l, f, UNKNOWN, when);
        break;
    case 4:
        if (!(flags & 1)) add_frame(&l->out, 0, 4, 1, 0);
        break;
    case 6:
        if (!(flags & 1)) {
            add_frame(&l->out, 8, 6, 1, 0);
            add(&l->out, at, 8);
        }
        break;
    }
}

static void hear(Link *l) {
    for (;;) {
        if (l->in.room - l->in.used < 65536) {
            l->in.room += 262144;
            if (!(l->in.at = realloc(l->in.at, l->in.room))) die("memory");
        }
        size_t room = l->in.room - l->in.used;
        ssize_t n = recv(l->fd, l->in.at + l->in.used, room, 0);
        if (n <= 0) {
            if (n < 0 && errno == EAGAIN) return;
            l->dead = 1;
            return;
        }
        l->in.used += n;
        int64_t when = now();
        size_t done = 0;
        while (l->in.used - done >= 9) {
            const uint8_t *h = l->in.at + done;
            uint32_t size = (uint32_t)h[0] << 16 | h[1] << 8 | h[2];
            if (l->in.used - done < 9 + size) break;
            uint32_t id = ((uint32_t)h[5] << 24 | h[6] << 16 | h[7] << 8 | h[8]) & 0x7fffffff;
            frame(l, h[3], h[4], id, h + 9, size, when);
            done += 9 + size;
        }
        memmove(l->in.at, l->in.at + done, l->in.used - done);
        l->in.used -= done;
        if ((size_t)n < room) return;
    }
}

static void turn(int timeout) {
    struct epoll_event found[256];
    int n = epoll_wait(poller, found, 256, timeout);
    for (int i = 0; i < n; i++) {
        Link *l = found[i].data.ptr;
        if (!l || l->dead) continue;
        if (found[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) hear(l);
        if (!l->dead && l->out.used) flush(l);
        if (!l->dead) continue;
        epoll_ctl(poller, EPOLL_CTL_DEL, l->fd, NULL);
        int64_t when = now();
        for (uint32_t at = 0; at <= l->flow_mask; at++)
            if (l->flows[at].open) end(l, &l->flows[at], UNAVAILABLE, when);
    }
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double q) { return latency_count ? latencies[(size_t)((latency_count - 1) * q)] : 0.0; }

static int calls(char **a) {
    double seconds = atof(a[4]), rate = atof(a[7]);
    int in_flight = atoi(a[6]), at = 0;
    state += strtoull(a[9], NULL, 10) * 0x9e3779b97f4a7c15ull;
    for (int i = 0; i < 20; i++) draw();
    int64_t start = now(), stop = start + (int64_t)(seconds * 1e9), due = start;
    count_from = start + (int64_t)(seconds * 0.2e9);
    for (int64_t t; (t = now()) < stop;) {
        if (rate > 0) {
            for (; due <= t; due += (int64_t)(-log(chance()) / rate * 1e9)) {
                Link *l = &links[at++ % link_count];
                if (!l->dead) begin(l, 0, draw() % body_count, due);
            }
        } else {
            for (int i = 0; i < link_count; i++) {
                int most = in_flight / link_count + (i < in_flight % link_count);
                while (!links[i].dead && links[i].under_way < most) begin(&links[i], 0, draw() % body_count, now());
            }
        }
        leave(t);
        int dead = 0;
        for (int i = 0; i < link_count; i++) {
            if (!links[i].dead && links[i].out.used && !links[i].writing) flush(&links[i]);
            dead += links[i].dead;
        }
        if (dead == link_count) errno = ECONNRESET, die("all connections");
        turn((rate > 0 && due - now() < 2000000) || (leave_after && leave_after < 10000000) ? 0 : 1);
    }
    int64_t took = stop - count_from;
    uint64_t under_way = 0;
    for (int i = 0; i < link_count; i++) under_way += links[i].under_way;
    qsort(latencies, latency_count, sizeof *latencies, by_size);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    if (ended_room) {
        FILE *f = fopen(a[12], "wb");
        if (!f || fwrite(ended, sizeof *ended, ended_count, f) != ended_count || fclose(f)) die(a[12]);
    }
    printf("{\"calls_per_second\": %.1f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"short_answers\": %llu, \"failed\": %llu, "
           "\"refused\": %llu, \"unanswered\": %llu, \"cpu_seconds\": %.3f}\n",
           latency_count / (took / 1e9), quantile(0.5), quantile(0.99), (unsigned long long)short_answers,
           (unsigned long long)failed, (unsigned long long)refusals, (unsigned long long)under_way, cpu);
    return 0;
}

static int streams(char **a) {
    uint32_t count = atoi(a[4]), opened = 0;
    double spread = atof(a[6]), patience = atof(a[8]);
    int64_t start = now(), limit = start + (int64_t)((spread + patience) * 1e9);
    streaming = 1;
    while (first_told + refused < count && now() < limit) {
        /* Those that come within SPREAD are as many a second; they come in the order of their numbers. */
        double part = spread > 0 ? (now() - start) / (spread * 1e9) : 1.0;
        uint32_t until = part >= 1.0 ? count : (uint32_t)(part * count);
        for (; opened < until; opened++) {
            Link *l = &links[opened % link_count];
            if (l->dead) refused++;
            else begin(l, opened, opened % body_count, now());
        }
        for (int i = 0; i < link_count; i++)
            if (!links[i].dead && links[i].out.used && !links[i].writing) flush(&links[i]);
        turn(1);
    }
    printf("{\"open\": %u, \"refused\": %u, \"silent\": %u, \"seconds\": %.3f}\n", first_told, refused,
           count - first_told - refused, (now() - start) / 1e9);
    fflush(stdout);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &e);
    fcntl(0, F_SETFL, O_NONBLOCK);
    char line[4096];
    size_t used = 0, wanted = 0;
    char file[4096] = "";
    int64_t until = 0;
    for (;;) {
        ssize_t n = read(0, line + used, sizeof line - 1 - used);
        if (n == 0) return 0;
        if (n > 0) {
            used += n;
            line[used] = 0;
            if (!strchr(line, '\n')) continue;
            if (sscanf(line, "%zu %4095s", &wanted, file) != 2) errno = EINVAL, die("input");
            used = 0;
            until = now() + (int64_t)(patience * 1e9);
            printf("{\"waiting\": %zu}\n", wanted);
            fflush(stdout);
        }
        turn(10);
        if (wanted && (receipt_count >= wanted || now() >= until)) {
            FILE *f = fopen(file, "wb");
            if (!f || fwrite(receipts, sizeof *receipts, receipt_count, f) != receipt_count) die(file);
            fclose(f);
            printf("{\"received\": %zu}\n", receipt_count);
            fflush(stdout);
            receipt_count = wanted = 0;
        }
    }
}

int main(int argc, char **argv) {
    int calling = argc == 15 && !strcmp(argv[1], "calls");
    if (!calling && !(argc == 11 && !strcmp(argv[1], "streams"))) {
        fprintf(stderr, "caller calls HOST PORT PATH BODIES SECONDS CONNECTIONS IN_FLIGHT RATE LEAST SEED LEAVE "
                        "TELL RECORD\n"
                        "caller streams HOST PORT PATH BODIES COUNT CONNECTIONS SPREAD LEAST PATIENCE\n");
        return 2;
    }
    char **a = argv + 2, authority[128];
    snprintf(authority, sizeof authority, "%s:%s", a[0], a[1]);
    if (calling) {
        leave_after = (int64_t)(atof(a[10]) * 1e6);
        leave_code = atoi(a[11]) ? DEADLINE_EXCEEDED : CANCELLED;
        ended_room = strcmp(a[12], "-") ? 65536 : 0;
        if (ended_room && !(ended = malloc(ended_room * sizeof *ended))) die("memory");
    }
    make_head(a[2], authority, calling && atoi(a[11]) ? atoi(a[10]) : 0);
    read_bodies(a[3]);
    link_count = atoi(a[5]);
    least = atoi(a[calling ? 8 : 7]);
    uint32_t flows = RING;
    for (; calling && flows > 1024 && flows * (uint64_t)link_count > 64 * RING; flows /= 2) {}
    if (!calling)
        for (flows = 2; flows < (uint32_t)atoi(a[4]) / link_count + 2; flows *= 2) {}
    poller = epoll_create1(0);
    if (!(links = calloc(link_count, sizeof *links))) die("memory");
    for (int i = 0; i < link_count; i++) open_link(&links[i], a[0], atoi(a[1]), flows);
    return calling ? calls(a) : streams(a);
}
